"""Temperature: no token is cut, the energies are rescaled."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column

COLDEST = 1e-6
"""A temperature below it counts as 0: scores divided by it would leave the range of float32."""
HOTTEST = 1e30
"""A temperature above it counts as this one, at which all scores are equal already."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Temperature(Filter):
    """Scores divided by T: bit for bit the rule of Hugging Face transformers.

    T = 0 is the limit T -> 0: only the largest score is left, of equal ones the first.

    Raises:
        ArgumentError: temperature < 0 or infinite.
    """

    temperature: RowParameter
    """T >= 0, in units of the scores."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("temperature", self.temperature, 0.0, torch.inf, "0 is greedy, 1 no change.")

    def _filtered(self, rows: Tensor) -> Tensor:
        temperature = column("temperature", self.temperature, rows)
        if not isinstance(temperature, Tensor):
            return greedy(rows) if temperature < COLDEST else rows / min(temperature, HOTTEST)
        frozen = temperature < COLDEST
        divided = rows / temperature.masked_fill(frozen, 1.0).clamp_max(HOTTEST).to(rows.dtype)
        return keep_one(divided, rows.argmax(dim=-1, keepdim=True), frozen)


def greedy(rows: Tensor) -> Tensor:
    """The rows with nothing but the first of their largest scores."""
    best = rows.argmax(dim=-1, keepdim=True)
    return torch.full_like(rows, -torch.inf).scatter_(-1, best, rows.gather(-1, best))


def keep_one(rows: Tensor, token: Tensor, where: Tensor) -> Tensor:
    """Cuts all but one token, in place, in the rows (rows, 1) where asked for."""
    score = rows.gather(-1, token)
    rows.add_(torch.where(where, -torch.inf, 0.0).to(rows))
    return rows.scatter_(-1, token, score)
