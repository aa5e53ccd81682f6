r"""Min-p: a cut in energy above the ground state, $E_i - E_0 \le -T \log p_{min}$."""

from dataclasses import dataclass

from torch import Tensor

from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column, in_rows
from gibbsian.sampling.filters.cutting import cut, kept


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MinP(Filter):
    r"""Tokens with $p_i \ge p_{min} \max p$: bit for bit the rule of Hugging Face transformers.

    Raises:
        ArgumentError: min_p outside [0, 1].

    References:
        Nguyen et al. 2024, Turning up the heat: min-p sampling.
    """

    min_p: RowParameter
    """Smallest probability relative to the largest, in [0, 1]."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("min_p", self.min_p, 0.0, 1.0, "0 keeps all tokens, 1 the most probable ones.")

    def _filtered(self, rows: Tensor) -> Tensor:
        share = in_rows(column("min_p", self.min_p, rows), rows).clamp_max(1.0)
        probs = rows.softmax(dim=-1)
        return cut(rows, kept(probs, share * probs.amax(dim=-1, keepdim=True)))
