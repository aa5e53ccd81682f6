"""Attentions as modules, for models: each is a thin object over its function.

They hold options, and the parameters of a learnable schedule, but no projections.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Unpack

from gibbsian._errors import ArgumentError
from gibbsian.attention.aes.functional import aes_attention
from gibbsian.attention.base import Attention, AttentionArguments, AttentionStatistics
from gibbsian.attention.entmax import entmax_attention
from gibbsian.attention.softmax import softmax_attention
from gibbsian.normalizers.schedules import (
    Schedule,
    SmoothStep,
    schedule_from_config,
    schedule_to_config,
)


class Softmax(Attention):
    """Softmax attention: torch's kernels."""

    name: ClassVar[str] = "softmax"

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        return_statistics: bool = False,
        **arguments: Unpack[AttentionArguments],
    ) -> Tensor | tuple[Tensor, AttentionStatistics]:
        """`softmax_attention`."""
        return softmax_attention(
            query,
            key,
            value,
            **arguments,
            return_statistics=return_statistics,
        )

    def _options(self) -> dict[str, Any]:
        return {}


class Entmax(Attention):
    """Entmax attention with one sparsity for all rows.

    Args:
        zeta: in [0, 1]: 0 softmax, 0.5 entmax-1.5, 1 sparsemax. For one that is learned, per head,
            use `AES(schedule=LearnableConstant(...))`.
    """

    name: ClassVar[str] = "entmax"

    def __init__(self, *, zeta: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= zeta <= 1.0:
            raise ArgumentError(
                f"`zeta` must lie in [0, 1] (alpha in [1, 2]), got {zeta}. "
                "0 is softmax, 1 is sparsemax."
            )
        self.zeta = float(zeta)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        return_statistics: bool = False,
        **arguments: Unpack[AttentionArguments],
    ) -> Tensor | tuple[Tensor, AttentionStatistics]:
        """`entmax_attention` at the module's zeta."""
        return entmax_attention(
            query,
            key,
            value,
            zeta=self.zeta,
            **arguments,
            return_statistics=return_statistics,
        )

    def extra_repr(self) -> str:
        """The sparsity."""
        return f"zeta={self.zeta}"

    def _options(self) -> dict[str, Any]:
        return {"zeta": self.zeta}


class AES(Attention):
    """Adaptive entropy sparsity: every row chooses its sparsity from its own entropy.

    Args:
        schedule: maps the rows' statistics to sparsities; `SmoothStep()` by default. One with
            parameters is a submodule, and its parameters are the attention's.
        detach_statistics: no gradient of the scores through the statistics: cheaper, see
            `aes_attention`.
    """

    name: ClassVar[str] = "aes"

    def __init__(
        self, *, schedule: Schedule | None = None, detach_statistics: bool = False
    ) -> None:
        super().__init__()
        if schedule is None:
            schedule = SmoothStep()
        elif not callable(schedule):
            raise ArgumentError(
                "`schedule` must be callable on `GibbsStatistics`, got "
                f"{type(schedule).__name__}. For one sparsity use `Constant(zeta=...)`."
            )
        self.schedule = schedule
        self.detach_statistics = detach_statistics

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        return_statistics: bool = False,
        **arguments: Unpack[AttentionArguments],
    ) -> Tensor | tuple[Tensor, AttentionStatistics]:
        """`aes_attention` with the module's schedule."""
        return aes_attention(
            query,
            key,
            value,
            schedule=self.schedule,
            detach_statistics=self.detach_statistics,
            **arguments,
            return_statistics=return_statistics,
        )

    def extra_repr(self) -> str:
        """The schedule, unless it is listed as a submodule, and the option."""
        shown = "" if "schedule" in self._modules else f"schedule={self.schedule}, "
        return f"{shown}detach_statistics={self.detach_statistics}"

    def _options(self) -> dict[str, Any]:
        return {
            "schedule": schedule_to_config(self.schedule),
            "detach_statistics": self.detach_statistics,
        }

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Attention":
        """Inverse of `_options`."""
        built = dict(options)
        if isinstance(built.get("schedule"), Mapping):
            built["schedule"] = schedule_from_config(built["schedule"])
        return super().from_options(built)
