r"""Top-p: a cut in free energy, $F_A - F = -T \log P(A) \le -T \log p$."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column, in_rows
from gibbsian.sampling.filters.cutting import cut_smallest, sorted_values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TopP(Filter):
    """The smallest set of most probable tokens whose probabilities add up to p.

    Bit for bit the rule of Hugging Face transformers, whose sum runs over the tokens that are cut,
    from the smallest; of equal scores at the edge, where theirs depends on the sort, the first
    stay. p = 0 leaves one token.

    Raises:
        ArgumentError: p outside [0, 1].

    Notes:
        Sorts the vocabulary.
    """

    p: RowParameter
    """Probability to keep, in [0, 1]."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("p", self.p, 0.0, 1.0, "0 is greedy, 1 keeps all tokens.")

    def _filtered(self, rows: Tensor) -> Tensor:
        return keep_mass(rows, column("p", self.p, rows))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FreeEnergyPool(Filter):
    r"""The smallest pool A whose free energy exceeds the whole's by at most a given amount.

    $F_A = -T \log \sum_{i \in A} e^{-E_i/T}$, so that $F_A - F = -T \log P(A)$ and this is top-p
    with $p = e^{-\delta}$, $\delta$ in units of T. Derivation:
    docs/derivations/sampling.md#top-p.

    Raises:
        ArgumentError: a negative or infinite excess.
    """

    excess: RowParameter
    r"""$\delta = (F_A - F)/T \ge 0$, nats; 0 keeps all tokens."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("excess", self.excess, 0.0, math.inf, "0 keeps all tokens, 0.1 is top-p 0.905.")

    def _filtered(self, rows: Tensor) -> Tensor:
        excess = column("excess", self.excess, rows)
        mass = (-excess).exp() if isinstance(excess, Tensor) else math.exp(-excess)
        return keep_mass(rows, mass)


def keep_mass(rows: Tensor, p: RowParameter) -> Tensor:
    """Top-p of contiguous rows; `p` is a number or (rows, 1)."""
    last = rows.shape[-1] - 1
    ascending = sorted_values(rows)
    lost = ascending.softmax(dim=-1).cumsum(dim=-1)
    # in float64, as Hugging Face's number is
    level = in_rows(1 - (p.double() if isinstance(p, Tensor) else p), rows)
    count = torch.searchsorted(lost, level.expand(rows.shape[0], 1).contiguous(), right=True)
    count = count.clamp_max(last)
    # a sum that ends above 1 by rounding would keep several at p = 0
    return cut_smallest(rows, ascending, count.masked_fill(in_rows(p, rows) <= 0, last))
