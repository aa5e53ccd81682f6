"""The engine of the CPU kernels: vector instructions, matrix products, threads. Needs numba."""
