"""Filters: which tokens may be drawn, as thermodynamic cuts (docs/usage/sampling.md#filters)."""

from gibbsian.sampling.filters.base import Filter as Filter
from gibbsian.sampling.filters.base import RowParameter as RowParameter
from gibbsian.sampling.filters.chain import Chain as Chain
from gibbsian.sampling.filters.entmax import EntmaxFilter as EntmaxFilter
from gibbsian.sampling.filters.epsilon import Epsilon as Epsilon
from gibbsian.sampling.filters.epsilon import Eta as Eta
from gibbsian.sampling.filters.min_p import MinP as MinP
from gibbsian.sampling.filters.p_less import PLess as PLess
from gibbsian.sampling.filters.target_entropy import TargetEntropy as TargetEntropy
from gibbsian.sampling.filters.temperature import Temperature as Temperature
from gibbsian.sampling.filters.top_h import TopH as TopH
from gibbsian.sampling.filters.top_h import TopHPartialSums as TopHPartialSums
from gibbsian.sampling.filters.top_k import TopK as TopK
from gibbsian.sampling.filters.top_n_sigma import TopNSigma as TopNSigma
from gibbsian.sampling.filters.top_p import FreeEnergyPool as FreeEnergyPool
from gibbsian.sampling.filters.top_p import TopP as TopP
from gibbsian.sampling.filters.typical import Typical as Typical

__all__ = [
    "Chain",
    "EntmaxFilter",
    "Epsilon",
    "Eta",
    "Filter",
    "FreeEnergyPool",
    "MinP",
    "PLess",
    "RowParameter",
    "TargetEntropy",
    "Temperature",
    "TopH",
    "TopHPartialSums",
    "TopK",
    "TopNSigma",
    "TopP",
    "Typical",
]
