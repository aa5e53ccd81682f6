"""A token of float32 rows in compiled code. Needs numba."""
