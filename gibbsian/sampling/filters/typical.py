r"""Typical sampling: a cut in the distance from the mean energy, $|-\log p_i - S|$."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column, in_rows
from gibbsian.sampling.filters.cutting import cut, kept


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Typical(Filter):
    r"""Tokens whose surprisal is nearest to the entropy, until they have a given probability.

    Bit for bit the rule of Hugging Face transformers. It is the one filter that may cut the most
    probable token, when that one is too probable to be typical.

    Raises:
        ArgumentError: mass outside (0, 1].

    Notes:
        Sorts the vocabulary, with positions.

    References:
        Meister et al. 2022, Locally typical sampling.
    """

    mass: RowParameter
    """Probability to keep, in (0, 1]."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("mass", self.mass, 0.0, 1.0, "1 keeps all tokens.", without_low=True)

    def _filtered(self, rows: Tensor) -> Tensor:
        mass = in_rows(column("mass", self.mass, rows), rows).expand(rows.shape[0], 1)
        log_probs = rows.log_softmax(dim=-1)
        entropy = -(log_probs * log_probs.exp()).nansum(dim=-1, keepdim=True)
        distance = (-log_probs - entropy).abs()
        ascending, order = distance.sort(dim=-1)
        reached = rows.gather(-1, order).softmax(dim=-1).cumsum(dim=-1)
        last = torch.searchsorted(reached, mass.contiguous()).clamp_max(rows.shape[-1] - 1)
        # the larger the nearer, as `kept` wants it
        return cut(rows, kept(distance.neg_(), -ascending.gather(-1, last)))
