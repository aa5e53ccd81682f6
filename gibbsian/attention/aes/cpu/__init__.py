"""Adaptive entropy sparsity in compiled code. Needs numba."""
