r"""Epsilon and eta: cuts in the surprisal itself."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column, in_rows
from gibbsian.sampling.filters.cutting import cut, kept


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Epsilon(Filter):
    r"""Tokens with $p_i \ge \epsilon$, a surprisal of at most $-\log \epsilon$; and the argmax.

    Bit for bit the rule of Hugging Face transformers.

    Raises:
        ArgumentError: epsilon outside [0, 1).

    References:
        Hewitt, Manning & Liang 2022, Truncation sampling as language model desmoothing.
    """

    epsilon: RowParameter
    """Smallest probability, in [0, 1)."""

    def __post_init__(self) -> None:
        """Check the range."""
        _check_probability("epsilon", self.epsilon)

    def _filtered(self, rows: Tensor) -> Tensor:
        level = in_rows(column("epsilon", self.epsilon, rows), rows)
        return _cut_improbable(rows, rows.softmax(dim=-1), level)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Eta(Filter):
    r"""Tokens with $p_i \ge \min(\epsilon, \sqrt{\epsilon}\, e^{-S})$; and the argmax.

    Bit for bit the rule of Hugging Face transformers.

    Raises:
        ArgumentError: epsilon outside [0, 1).

    References:
        Hewitt, Manning & Liang 2022.
    """

    epsilon: RowParameter
    """Smallest probability where the entropy is low, in [0, 1)."""

    def __post_init__(self) -> None:
        """Check the range."""
        _check_probability("epsilon", self.epsilon)

    def _filtered(self, rows: Tensor) -> Tensor:
        epsilon = in_rows(column("epsilon", self.epsilon, rows), rows)
        # as torch.distributions.Categorical takes it, digit for digit
        log_probs = rows - rows.logsumexp(dim=-1, keepdim=True)
        lowest = torch.finfo(rows.dtype).min
        entropy = -(log_probs.clamp_min(lowest) * log_probs.softmax(dim=-1)).sum(-1, keepdim=True)
        level = torch.minimum(epsilon, epsilon.sqrt() * (-entropy).exp())
        return _cut_improbable(rows, rows.softmax(dim=-1), level)


def _check_probability(name: str, value: RowParameter) -> None:
    below_one = math.nextafter(1.0, 0.0)
    check_range(name, value, 0.0, below_one, "0 keeps all tokens, 0.0003 is common.")


def _cut_improbable(rows: Tensor, probs: Tensor, level: Tensor) -> Tensor:
    keep = kept(probs, level)
    largest = torch.ge(rows, rows.amax(dim=-1, keepdim=True), out=torch.empty_like(rows))
    return cut(rows, torch.maximum(keep, largest, out=keep))
