"""What can be observed of attention rows, beyond the statistics of `gibbsian.statistics`."""

from gibbsian.observables.rows import RowObservables as RowObservables
from gibbsian.observables.rows import row_observables as row_observables

__all__ = ["RowObservables", "row_observables"]
