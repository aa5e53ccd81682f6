"""Entropy-driven attention and sampling: one Gibbs distribution behind both."""

from gibbsian.attention import AES as AES
from gibbsian.attention import LLN as LLN
from gibbsian.attention import Attention as Attention
from gibbsian.attention import AttentionStatistics as AttentionStatistics
from gibbsian.attention import Entmax as Entmax
from gibbsian.attention import KeyIndex as KeyIndex
from gibbsian.attention import LLNDiag as LLNDiag
from gibbsian.attention import Softmax as Softmax
from gibbsian.attention import aes_attention as aes_attention
from gibbsian.attention import aes_decode as aes_decode
from gibbsian.attention import attention_from_config as attention_from_config
from gibbsian.attention import attention_row_statistics as attention_row_statistics
from gibbsian.attention import entmax_attention as entmax_attention
from gibbsian.attention import lln_attention as lln_attention
from gibbsian.attention import lln_diag_attention as lln_diag_attention
from gibbsian.attention import softmax_attention as softmax_attention
from gibbsian.losses import Entmax15Loss as Entmax15Loss
from gibbsian.losses import EntmaxBisectLoss as EntmaxBisectLoss
from gibbsian.losses import SparsemaxBisectLoss as SparsemaxBisectLoss
from gibbsian.losses import SparsemaxLoss as SparsemaxLoss
from gibbsian.losses import entmax15_loss as entmax15_loss
from gibbsian.losses import entmax_bisect_loss as entmax_bisect_loss
from gibbsian.losses import sparsemax_bisect_loss as sparsemax_bisect_loss
from gibbsian.losses import sparsemax_loss as sparsemax_loss
from gibbsian.normalizers import Constant as Constant
from gibbsian.normalizers import Cosine as Cosine
from gibbsian.normalizers import Entmax15 as Entmax15
from gibbsian.normalizers import EntmaxBisect as EntmaxBisect
from gibbsian.normalizers import Gated as Gated
from gibbsian.normalizers import LearnableConstant as LearnableConstant
from gibbsian.normalizers import LearnableRamp as LearnableRamp
from gibbsian.normalizers import Linear as Linear
from gibbsian.normalizers import Response as Response
from gibbsian.normalizers import Schedule as Schedule
from gibbsian.normalizers import SmoothStep as SmoothStep
from gibbsian.normalizers import Sparsemax as Sparsemax
from gibbsian.normalizers import SparsemaxBisect as SparsemaxBisect
from gibbsian.normalizers import VarentropyBounds as VarentropyBounds
from gibbsian.normalizers import entmax as entmax
from gibbsian.normalizers import entmax15 as entmax15
from gibbsian.normalizers import entmax_bisect as entmax_bisect
from gibbsian.normalizers import potential as potential
from gibbsian.normalizers import softmax as softmax
from gibbsian.normalizers import sparsemax as sparsemax
from gibbsian.normalizers import sparsemax_bisect as sparsemax_bisect
from gibbsian.statistics import GibbsStatistics as GibbsStatistics
from gibbsian.statistics import gibbs_statistics as gibbs_statistics

__version__ = "0.1.0"

__all__ = [
    "AES",
    "LLN",
    "Attention",
    "AttentionStatistics",
    "Constant",
    "Cosine",
    "Entmax",
    "Entmax15",
    "Entmax15Loss",
    "EntmaxBisect",
    "EntmaxBisectLoss",
    "Gated",
    "GibbsStatistics",
    "KeyIndex",
    "LLNDiag",
    "LearnableConstant",
    "LearnableRamp",
    "Linear",
    "Response",
    "Schedule",
    "SmoothStep",
    "Softmax",
    "Sparsemax",
    "SparsemaxBisect",
    "SparsemaxBisectLoss",
    "SparsemaxLoss",
    "VarentropyBounds",
    "aes_attention",
    "aes_decode",
    "attention_from_config",
    "attention_row_statistics",
    "entmax",
    "entmax15",
    "entmax15_loss",
    "entmax_attention",
    "entmax_bisect",
    "entmax_bisect_loss",
    "gibbs_statistics",
    "lln_attention",
    "lln_diag_attention",
    "potential",
    "softmax",
    "softmax_attention",
    "sparsemax",
    "sparsemax_bisect",
    "sparsemax_bisect_loss",
    "sparsemax_loss",
]
