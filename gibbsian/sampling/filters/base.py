r"""What a filter is: logits in, logits out, tokens taken away at $-\infty$.

Rows are independent. A parameter is a number, or a tensor with one number a row. Nothing here waits
for a device, so tensors are not checked: one outside its range is clamped to it.
"""

import math
from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.numerics.masked import check_dim, working_dtype

RowParameter: TypeAlias = float | Tensor
"""A number for all rows, or a tensor shaped like them with one each."""


class Filter(ABC):
    """A frozen description of a cut; calling it applies it."""

    @torch.no_grad()
    def __call__(self, logits: Float[Tensor, "*batch states"]) -> Float[Tensor, "*batch states"]:
        """Logits with the tokens that are cut at -inf, without a graph.

        Args:
            logits: -inf marks a token that is absent already.

        Returns:
            A new tensor in float32 or wider. Every row that had a token still has one.

        Raises:
            ArgumentError: logits not floating-point or without a dimension of tokens, or a
                parameter that does not have one number a row.
        """
        check_dim(logits, -1)
        wide = logits.detach().to(working_dtype(logits))
        rows = wide.reshape(math.prod(logits.shape[:-1]), logits.shape[-1]).contiguous()
        if rows.numel() == 0:
            return wide.clone()
        return self._filtered(rows).view(logits.shape)

    @abstractmethod
    def _filtered(self, rows: Tensor) -> Tensor:
        """The same for contiguous rows (rows, states), at least one of each; a new tensor."""


def column(name: str, value: RowParameter, rows: Tensor) -> RowParameter:
    """A parameter as it meets (rows, states): a number stays one, a tensor becomes (rows, 1).

    It keeps its dtype: one of float64 is as good as the number in it.

    Raises:
        ArgumentError: a tensor that does not have one number a row.
    """
    if not isinstance(value, Tensor):
        return value
    if value.numel() not in (1, rows.shape[0]):
        raise ArgumentError(
            f"`{name}` must have one number for each of the {rows.shape[0]} rows, got shape "
            f"{tuple(value.shape)}. One for all rows is a plain number."
        )
    return value.detach().to(rows.device).reshape(-1, 1)


def in_rows(value: RowParameter, rows: Tensor) -> Tensor:
    """A `column` in the dtype of the rows, always a tensor."""
    # filled in on the device: a copy from the host would wait for it
    return value.to(rows.dtype) if isinstance(value, Tensor) else rows.new_full((1, 1), value)


def check_range(
    name: str,
    value: RowParameter,
    low: float,
    high: float,
    way_out: str,
    *,
    without_low: bool = False,
) -> None:
    """Raises `ArgumentError` unless a number lies in [low, high]; tensors pass.

    Args:
        name: of the parameter.
        value: looked at.
        low: smallest value allowed.
        high: largest, itself only allowed if finite.
        way_out: what to do instead, a sentence.
        without_low: `low` itself is not allowed.
    """
    if isinstance(value, Tensor):
        return
    above = value > low if without_low else value >= low
    if above and value <= high and value < math.inf:
        return
    edge = ">" if without_low else ">="
    rule = (
        f"be a finite number {edge} {low:g}"
        if math.isinf(high)
        else f"lie in {'(' if without_low else '['}{low:g}, {high:g}]"
    )
    raise ArgumentError(f"`{name}` must {rule}, got {value}. {way_out}")
