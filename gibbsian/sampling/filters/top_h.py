"""Top-h: a cut in entropy, by the paper's rule and by the one that Hugging Face ships."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column, in_rows
from gibbsian.sampling.filters.cutting import cut, cut_smallest, sorted_values

_MOST_TOKENS = 100
_ROUNDING = 1e-12
"""Relative: a pool that meets its budget exactly is inside."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TopH(Filter):
    r"""The most probable tokens, as many as have an entropy of at most $h S$ once renormalised.

    The entropy of the k most probable tokens rises with k, so the pool is well defined. Derivation:
    docs/derivations/sampling.md#top-h.

    Raises:
        ArgumentError: h outside [0, 1].

    Notes:
        Sorts the vocabulary; sums in float64.

    References:
        Potraghloo et al. 2025, Top-H decoding: adapting the creativity and coherence with bounded
        entropy in text generation.
    """

    h: RowParameter
    """Share of the entropy to keep, in [0, 1]; 0 is greedy."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("h", self.h, 0.0, 1.0, "0 is greedy, 1 keeps all tokens.")

    def _filtered(self, rows: Tensor) -> Tensor:
        last = rows.shape[-1] - 1
        ascending = sorted_values(rows)
        probs = ascending.flip(-1).softmax(dim=-1, dtype=torch.float64)
        mass = probs.cumsum(dim=-1)
        entropy = torch.special.entr(probs).cumsum(dim=-1).div_(mass).add_(mass.log())
        # the running maximum takes off what rounding adds to a rising sequence
        entropy = entropy.cummax(dim=-1).values
        budget = in_rows(column("h", self.h, rows), entropy) * entropy[:, -1:]
        count = torch.searchsorted(entropy, budget * (1 + _ROUNDING), right=True)
        count = count.masked_fill(budget <= 0, 1)
        return cut_smallest(rows, ascending, (last + 1 - count).clamp(0, last))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TopHPartialSums(Filter):
    r"""The rule that Hugging Face transformers ships as top-h, bit for bit.

    It differs from `TopH`, the paper's: the terms $-p_i \log p_i$ of the 100 most probable tokens
    are added up as they are, not renormalised for each pool, and stay below h times the entropy of
    those 100.

    Raises:
        ArgumentError: h outside [0, 1].
    """

    h: RowParameter
    """Share of the entropy to keep, in [0, 1]; 0 is greedy."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("h", self.h, 0.0, 1.0, "0 is greedy.")

    def _filtered(self, rows: Tensor) -> Tensor:
        largest, index = torch.topk(rows, min(_MOST_TOKENS, rows.shape[-1]), dim=-1)
        # as torch.distributions.Categorical takes them, digit for digit
        log_probs = largest - largest.logsumexp(dim=-1, keepdim=True)
        probs = log_probs.softmax(dim=-1)
        lowest = torch.finfo(rows.dtype).min
        entropy = -(log_probs.clamp_min(lowest) * probs).sum(dim=-1, keepdim=True)
        budget = entropy * in_rows(column("h", self.h, rows), rows)
        sums = (-probs * probs.log()).cumsum(dim=-1)
        # of a probability that is 0 in float32 the sum is NaN, and the token cut
        inside = torch.le(sums, budget, out=torch.empty_like(sums))
        inside[:, 0] = 1.0
        return cut(rows, torch.zeros_like(rows).scatter_(-1, index, inside))
