"""The schedule that does not look: one zeta for all rows, or one for each head."""

from dataclasses import dataclass
from typing import ClassVar

from gibbsian._errors import ArgumentError
from gibbsian._typing import PerRow
from gibbsian.normalizers.schedules.base import check_unit, per_head
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """The same sparsity whatever the statistics; 0 is softmax, 1 sparsemax.

    Raises:
        ArgumentError: a zeta outside [0, 1], or an empty tuple.
    """

    name: ClassVar[str] = "constant"

    zeta: float | tuple[float, ...]
    """Sparsity in [0, 1]; a tuple gives one for each head of rows shaped (..., heads, queries)."""

    def __post_init__(self) -> None:
        """Check the range."""
        values = self.zeta if isinstance(self.zeta, tuple) else (self.zeta,)
        if not values:
            raise ArgumentError("`zeta` must have one value for each head, got (). Give a number.")
        for value in values:
            check_unit("zeta", value)

    def __call__(self, statistics: GibbsStatistics) -> PerRow:
        """The constant, in the shape of the rows."""
        rows = statistics.entropy
        if not isinstance(self.zeta, tuple):
            return rows.new_full(rows.shape, self.zeta)
        return per_head(rows.new_tensor(self.zeta), len(self.zeta), rows).expand(rows.shape)
