"""Entropy-driven attention and sampling: one Gibbs distribution behind both."""

from gibbsian.attention import AES as AES
from gibbsian.attention import Attention as Attention
from gibbsian.attention import AttentionStatistics as AttentionStatistics
from gibbsian.attention import Entmax as Entmax
from gibbsian.attention import Softmax as Softmax
from gibbsian.attention import aes_attention as aes_attention
from gibbsian.attention import attention_from_config as attention_from_config
from gibbsian.attention import entmax_attention as entmax_attention
from gibbsian.attention import softmax_attention as softmax_attention

__version__ = "0.1.0"

__all__ = [
    "AES",
    "Attention",
    "AttentionStatistics",
    "Entmax",
    "Softmax",
    "aes_attention",
    "attention_from_config",
    "entmax_attention",
    "softmax_attention",
]
