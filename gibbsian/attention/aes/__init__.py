"""Adaptive entropy sparsity: the reference, and the fast forms beside it."""

from gibbsian.attention.aes.reference import aes_attention as aes_attention

__all__ = ["aes_attention"]
