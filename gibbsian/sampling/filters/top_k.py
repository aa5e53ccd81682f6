"""Top-k: a cut in the number of tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.sampling.filters.base import Filter, column
from gibbsian.sampling.filters.cutting import cut, sorted_values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TopK(Filter):
    """The k largest scores, and all that equal the last of them.

    Bit for bit the rule of Hugging Face transformers.

    Raises:
        ArgumentError: k < 1, or a bound < 1.
    """

    k: int | Tensor
    """Number of tokens, >= 1; a tensor has one for each row."""
    bound: int | None = None
    """No k in the tensor is larger (larger ones count as this): saves a sort of the vocabulary."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in (("k", self.k), ("bound", self.bound)):
            if isinstance(value, int) and value < 1:
                raise ArgumentError(
                    f"`{name}` must be an integer >= 1, got {value}. 1 is greedy; for all tokens "
                    "leave the filter out."
                )

    def _filtered(self, rows: Tensor) -> Tensor:
        states = rows.shape[-1]
        given = self.k if isinstance(self.k, Tensor) else float(self.k)
        k = column("k", given, rows)
        if not isinstance(k, Tensor):
            level = torch.topk(rows, min(int(k), states)).values[:, -1:]
        else:
            most = states if self.bound is None else min(self.bound, states)
            # a row that is NaN must not index out of the others' reach
            index = k.float().round().nan_to_num(1.0).clamp(1, most).long() - 1
            if self.bound is None:
                level = sorted_values(rows).gather(-1, states - 1 - index)
            else:
                largest = torch.topk(rows, most).values
                level = largest.gather(-1, index.expand(rows.shape[0], 1))
        return cut(rows, torch.ge(rows, level, out=torch.empty_like(rows)))
