"""Compiled kernels of observables."""
