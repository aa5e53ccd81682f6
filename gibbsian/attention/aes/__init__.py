"""Adaptive entropy sparsity: attention whose every row chooses its own sparsity."""

from gibbsian.attention.aes.decoding import aes_decode as aes_decode
from gibbsian.attention.aes.functional import aes_attention as aes_attention
from gibbsian.attention.aes.key_index import KeyIndex as KeyIndex

__all__ = ["KeyIndex", "aes_attention", "aes_decode"]
