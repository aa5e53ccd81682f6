"""Unconstrained parameters of a schedule: one number for each head, or one shared by all rows."""

import copy
import math
from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn

from gibbsian._errors import ArgumentError
from gibbsian.normalizers.schedules.base import per_head

_Self = TypeVar("_Self", bound="PerHeadParameters")


class PerHeadParameters(nn.Module, ABC):
    """A module whose parameters are all shaped (num_heads,), or (1,) where they are shared.

    A shared parameter has one element rather than no dimension: sharded data parallelism
    (`torch.distributed.fsdp`) takes no parameter without a dimension.

    Args:
        num_heads: None = one value shared by all rows, whatever their shape.

    Raises:
        ArgumentError: `num_heads` < 1.
    """

    def __init__(self, *, num_heads: int | None = None) -> None:
        super().__init__()
        _check_num_heads(num_heads)
        self.num_heads = num_heads

    # Self is in typing from Python 3.11 on only
    def for_heads(self: _Self, num_heads: int) -> _Self:  # noqa: PYI019
        """A copy with parameters for `num_heads` heads, each starting from the shared value.

        With the same number of heads it is a plain copy. Options of the parameters (dtype, device,
        `requires_grad`) are kept.

        Raises:
            ArgumentError: the parameters are already those of another number of heads.
        """
        _check_num_heads(num_heads)
        if self.num_heads not in (None, num_heads):
            raise ArgumentError(
                f"`num_heads` must be {self.num_heads}, the number of heads of this schedule, got "
                f"{num_heads}. Build the schedule with num_heads=None: it then fits any model."
            )
        rebuilt = copy.deepcopy(self)
        for module in rebuilt.modules():
            if isinstance(module, PerHeadParameters):
                module.num_heads = num_heads
                for name, shared in list(module.named_parameters(recurse=False)):
                    values = shared.detach().expand(num_heads).clone()
                    setattr(module, name, nn.Parameter(values, requires_grad=shared.requires_grad))
        return rebuilt

    @abstractmethod
    def values(self) -> dict[str, Tensor]:
        """Current values by name, as the properties give them: (num_heads,), or () where shared."""

    def _parameter(self, value: float) -> nn.Parameter:
        """A parameter that starts at `value` in every head."""
        return nn.Parameter(torch.full((self.num_heads or 1,), value))

    def _readable(self, values: Tensor) -> Tensor:
        """Values for people: (num_heads,), or () where shared."""
        return values if self.num_heads is not None else values.squeeze(0)

    def _for_rows(self, values: Tensor, rows: Tensor) -> Tensor:
        """Values that broadcast against the rows, in their dtype."""
        return per_head(values, self.num_heads, rows)


def sigmoid(raw: Tensor) -> Tensor:
    """The logistic function in float32 or wider, whatever the dtype of the model's parameters."""
    return torch.sigmoid(raw.to(torch.promote_types(raw.dtype, torch.float32)))


def logit(name: str, value: float) -> float:
    """Inverse of `sigmoid` for an initial value; raises `ArgumentError` outside (0, 1)."""
    if not 0.0 < value < 1.0:
        raise ArgumentError(
            f"`{name}` must lie strictly between 0 and 1 to be learned, got {value}. "
            "At an end its gradient is 0: begin nearer to the middle, or use a fixed schedule."
        )
    return math.log(value) - math.log1p(-value)


def _check_num_heads(num_heads: int | None) -> None:
    if num_heads is not None and num_heads < 1:
        raise ArgumentError(
            f"`num_heads` must be >= 1, got {num_heads}. None shares one value among all rows."
        )
