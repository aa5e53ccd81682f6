"""What can be observed of attention rows, beyond the statistics of `gibbsian.statistics`."""

from gibbsian.observables.agreement import head_agreement as head_agreement
from gibbsian.observables.rows import RowObservables as RowObservables
from gibbsian.observables.rows import row_observables as row_observables
from gibbsian.observables.sparsity_response import SparsityResponse as SparsityResponse
from gibbsian.observables.sparsity_response import sparsity_response as sparsity_response
from gibbsian.observables.temperature import HeadTemperatures as HeadTemperatures
from gibbsian.observables.temperature import head_temperatures as head_temperatures

__all__ = [
    "HeadTemperatures",
    "RowObservables",
    "SparsityResponse",
    "head_agreement",
    "head_temperatures",
    "row_observables",
    "sparsity_response",
]
