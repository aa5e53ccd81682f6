"""Attention: functions with the conventions of torch's SDPA, and the same as modules."""

from gibbsian.attention.aes import KeyIndex as KeyIndex
from gibbsian.attention.aes import aes_attention as aes_attention
from gibbsian.attention.aes import aes_decode as aes_decode
from gibbsian.attention.base import Attention as Attention
from gibbsian.attention.base import AttentionArguments as AttentionArguments
from gibbsian.attention.base import AttentionStatistics as AttentionStatistics
from gibbsian.attention.entmax import entmax_attention as entmax_attention
from gibbsian.attention.gibbs import attention_row_statistics as attention_row_statistics
from gibbsian.attention.layers import AES as AES
from gibbsian.attention.layers import Entmax as Entmax
from gibbsian.attention.layers import Softmax as Softmax
from gibbsian.attention.lln import lln_attention as lln_attention
from gibbsian.attention.lln import lln_diag_attention as lln_diag_attention
from gibbsian.attention.lln.layers import LLN as LLN
from gibbsian.attention.lln.layers import LLNDiag as LLNDiag
from gibbsian.attention.registry import attention_from_config as attention_from_config
from gibbsian.attention.softmax import softmax_attention as softmax_attention

__all__ = [
    "AES",
    "LLN",
    "Attention",
    "AttentionArguments",
    "AttentionStatistics",
    "Entmax",
    "KeyIndex",
    "LLNDiag",
    "Softmax",
    "aes_attention",
    "aes_decode",
    "attention_from_config",
    "attention_row_statistics",
    "entmax_attention",
    "lln_attention",
    "lln_diag_attention",
    "softmax_attention",
]
