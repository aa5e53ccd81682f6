"""LLN and LLN+Diag as compiled kernels. Needs numba; loaded by `gibbsian.attention.lln.forms`."""
