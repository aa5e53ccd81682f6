"""Filters one after another."""

from dataclasses import dataclass

from torch import Tensor

from gibbsian.sampling.filters.base import Filter


@dataclass(frozen=True, slots=True, eq=False)
class Chain(Filter):
    """Filters applied in order, each to what the one before has left; none = no change."""

    filters: tuple[Filter, ...]
    """In order of application."""

    def _filtered(self, rows: Tensor) -> Tensor:
        if not self.filters:
            return rows.clone()
        for step in self.filters:
            rows = step(rows)
        return rows
