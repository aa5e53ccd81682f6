"""The sparsities that a schedule chooses, checked."""

from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.normalizers.schedules import Schedule
from gibbsian.statistics import GibbsStatistics


def scheduled(schedule: Schedule, statistics: GibbsStatistics) -> Tensor:
    """One sparsity a row, (batch, heads, queries).

    Raises:
        ArgumentError: the schedule returns another shape.
    """
    zeta = schedule(statistics)
    rows = statistics.entropy.shape
    if zeta.shape != rows:
        raise ArgumentError(
            f"`schedule` must return one sparsity a row, shape {tuple(rows)}, got "
            f"{tuple(zeta.shape)}. A parameter a head has shape (heads, 1)."
        )
    return zeta
