"""Top-n-sigma: a cut in energy, measured in standard deviations of the energies."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column, in_rows
from gibbsian.sampling.filters.cutting import cut


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TopNSigma(Filter):
    r"""Tokens with $x_i \ge \max x - n\, \sigma(x)$, as llama.cpp has it.

    $\sigma$ is the standard deviation of the scores of all present tokens, each counted alike (and
    divided by their number). The tokens kept do not depend on the temperature. n = 0 keeps all.

    Raises:
        ArgumentError: n negative or infinite.

    References:
        Tang et al. 2024, Top-n-sigma: not all logits are you need.
    """

    n: RowParameter
    """Distance from the largest score in standard deviations, >= 0."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("n", self.n, 0.0, math.inf, "1 is common; 0 keeps all tokens.")

    def _filtered(self, rows: Tensor) -> Tensor:
        n = in_rows(column("n", self.n, rows), rows)
        largest = rows.amax(dim=-1, keepdim=True)
        present = torch.ne(rows, -torch.inf, out=torch.empty_like(rows))
        count = present.sum(dim=-1, keepdim=True).clamp_min(1.0)
        # absent tokens leave before the arithmetic: any finite number, times 0
        below = (rows - largest).clamp_min_(torch.finfo(rows.dtype).min)
        mean = (below * present).sum(dim=-1, keepdim=True) / count
        variance = below.sub_(mean).mul_(present).square_().sum(dim=-1, keepdim=True) / count
        level = torch.where(n > 0, largest - n * variance.sqrt(), -torch.inf)
        return cut(rows, torch.ge(rows, level, out=present))
