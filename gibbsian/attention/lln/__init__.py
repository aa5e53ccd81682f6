"""Linear log-normal attention: log-normal rows like softmax's, at linear cost."""

from gibbsian.attention.lln.bidirectional import bidirectional_lln as bidirectional_lln
from gibbsian.attention.lln.causal import causal_lln as causal_lln
from gibbsian.attention.lln.functional import lln_attention as lln_attention
from gibbsian.attention.lln.functional import lln_diag_attention as lln_diag_attention
from gibbsian.attention.lln.layers import LLN as LLN
from gibbsian.attention.lln.layers import LLNDiag as LLNDiag
from gibbsian.attention.lln.masks import LinearMask as LinearMask
from gibbsian.attention.lln.masks import linear_mask as linear_mask
from gibbsian.attention.lln.matching import MatchingFit as MatchingFit
from gibbsian.attention.lln.matching import broad_variance as broad_variance
from gibbsian.attention.lln.matching import fenton_mean as fenton_mean
from gibbsian.attention.lln.matching import fenton_variance as fenton_variance
from gibbsian.attention.lln.matching import lln_temperature as lln_temperature
from gibbsian.attention.lln.matching import matched_scales as matched_scales
from gibbsian.attention.lln.matching import matching_fit as matching_fit
from gibbsian.attention.lln.matching import narrow_variance as narrow_variance
from gibbsian.attention.lln.matching import softmax_temperature as softmax_temperature
from gibbsian.attention.lln.recurrent import recurrent_lln as recurrent_lln
from gibbsian.attention.lln.reference import lln_diag_weights as lln_diag_weights
from gibbsian.attention.lln.reference import lln_weights as lln_weights
from gibbsian.attention.lln.state import LLNState as LLNState

__all__ = [
    "LLN",
    "LLNDiag",
    "LLNState",
    "LinearMask",
    "MatchingFit",
    "bidirectional_lln",
    "broad_variance",
    "causal_lln",
    "fenton_mean",
    "fenton_variance",
    "linear_mask",
    "lln_attention",
    "lln_diag_attention",
    "lln_diag_weights",
    "lln_temperature",
    "lln_weights",
    "matched_scales",
    "matching_fit",
    "narrow_variance",
    "recurrent_lln",
    "softmax_temperature",
]
