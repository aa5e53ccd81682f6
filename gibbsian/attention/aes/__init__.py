"""Adaptive entropy sparsity: attention whose every row chooses its own sparsity."""

from gibbsian.attention.aes.functional import aes_attention as aes_attention

__all__ = ["aes_attention"]
