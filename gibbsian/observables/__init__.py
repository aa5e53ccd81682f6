"""What can be observed of attention rows, beyond the statistics of `gibbsian.statistics`."""

from gibbsian.observables.agreement import head_agreement as head_agreement
from gibbsian.observables.correlators import connected_correlator as connected_correlator
from gibbsian.observables.correlators import correlator as correlator
from gibbsian.observables.correlators import value_correlator as value_correlator
from gibbsian.observables.effective_correlation import EffectiveCorrelation as EffectiveCorrelation
from gibbsian.observables.effective_correlation import (
    effective_correlation as effective_correlation,
)
from gibbsian.observables.linear_spectral import linear_spectral_gaps as linear_spectral_gaps
from gibbsian.observables.linear_spectral import lln_spectral_gaps as lln_spectral_gaps
from gibbsian.observables.lognormal import LogNormalFit as LogNormalFit
from gibbsian.observables.lognormal import lognormal_fit as lognormal_fit
from gibbsian.observables.normality import NormalFit as NormalFit
from gibbsian.observables.normality import normal_fit as normal_fit
from gibbsian.observables.relevance import leave_one_out as leave_one_out
from gibbsian.observables.rows import RowObservables as RowObservables
from gibbsian.observables.rows import row_observables as row_observables
from gibbsian.observables.sparsity_response import SparsityResponse as SparsityResponse
from gibbsian.observables.sparsity_response import sparsity_response as sparsity_response
from gibbsian.observables.spectral import SpectralGap as SpectralGap
from gibbsian.observables.spectral import dense_spectral_gaps as dense_spectral_gaps
from gibbsian.observables.spectral import eigenvalue_gap as eigenvalue_gap
from gibbsian.observables.spectral import singular_gap as singular_gap
from gibbsian.observables.temperature import HeadTemperatures as HeadTemperatures
from gibbsian.observables.temperature import head_temperatures as head_temperatures

__all__ = [
    "EffectiveCorrelation",
    "HeadTemperatures",
    "LogNormalFit",
    "NormalFit",
    "RowObservables",
    "SparsityResponse",
    "SpectralGap",
    "connected_correlator",
    "correlator",
    "dense_spectral_gaps",
    "effective_correlation",
    "eigenvalue_gap",
    "head_agreement",
    "head_temperatures",
    "leave_one_out",
    "linear_spectral_gaps",
    "lln_spectral_gaps",
    "lognormal_fit",
    "normal_fit",
    "row_observables",
    "singular_gap",
    "sparsity_response",
    "value_correlator",
]
