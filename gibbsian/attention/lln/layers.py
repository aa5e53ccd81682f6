"""LLN and LLN+Diag as modules, with scales that training keeps."""

from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Unpack

from gibbsian.attention.base import Attention, AttentionArguments, AttentionStatistics
from gibbsian.attention.inputs import AttentionInputs, checked_inputs
from gibbsian.attention.lln.forms import attend, block_obstacles, check_block_size
from gibbsian.attention.lln.inputs import LLNInputs
from gibbsian.attention.lln.scales import MatchedScales


class LLN(Attention):
    """Linear log-normal attention.

    Args:
        moments: which queries and keys the scales are matched to. "running" (default): averages a
            head over earlier training batches, frozen in evaluation; no output depends on other
            samples, later positions or padding. "head": each sample and head of the input, without
            causality only. "tensor": the whole input, as the published code does, which leaks.
        momentum: weight of a new batch in the running averages, in (0, 1].
        query_scale: fixed scale of the queries (the paper's alpha); with `key_scale` (beta) it
            replaces moment matching.
        key_scale: fixed scale of the keys.
    """

    name: ClassVar[str] = "lln"

    def __init__(
        self,
        *,
        moments: str = "running",
        momentum: float = 0.1,
        query_scale: float | None = None,
        key_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.scales = MatchedScales(
            moments=moments, momentum=momentum, query_scale=query_scale, key_scale=key_scale
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        return_statistics: bool = False,
        **arguments: Unpack[AttentionArguments],
    ) -> Tensor | tuple[Tensor, AttentionStatistics]:
        """`lln_attention` with the scales of this layer."""
        backend = arguments.get("backend", "auto")
        inputs = LLNInputs.of(_checked(query, key, value, arguments), backend=backend)
        return attend(
            inputs,
            self.scales(inputs),
            return_statistics=return_statistics,
        )

    def _options(self) -> dict[str, Any]:
        return self.scales.options()


class LLNDiag(Attention):
    """The mean of linear log-normal attention and of softmax attention in diagonal blocks.

    Args:
        moments: as in `LLN`.
        momentum: as in `LLN`.
        query_scale: as in `LLN`.
        key_scale: as in `LLN`.
        block_size: keys in a block, >= 1.
    """

    name: ClassVar[str] = "lln_diag"

    def __init__(
        self,
        *,
        moments: str = "running",
        momentum: float = 0.1,
        query_scale: float | None = None,
        key_scale: float | None = None,
        block_size: int = 64,
    ) -> None:
        super().__init__()
        check_block_size(block_size)
        self.block_size = block_size
        self.scales = MatchedScales(
            moments=moments, momentum=momentum, query_scale=query_scale, key_scale=key_scale
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        return_statistics: bool = False,
        **arguments: Unpack[AttentionArguments],
    ) -> Tensor | tuple[Tensor, AttentionStatistics]:
        """`lln_diag_attention` with the scales of this layer."""
        backend = arguments.get("backend", "auto")
        inputs = LLNInputs.of(
            _checked(query, key, value, arguments),
            backend=backend,
            obstacles=block_obstacles(self.block_size),
        )
        return attend(
            inputs,
            self.scales(inputs),
            block_size=self.block_size,
            return_statistics=return_statistics,
        )

    def _options(self) -> dict[str, Any]:
        return {**self.scales.options(), "block_size": self.block_size}


def _checked(
    query: Tensor, key: Tensor, value: Tensor, arguments: AttentionArguments
) -> AttentionInputs:
    others = {name: given for name, given in arguments.items() if name != "backend"}
    return checked_inputs(query, key, value, **others)  # type: ignore[arg-type]  # as above
