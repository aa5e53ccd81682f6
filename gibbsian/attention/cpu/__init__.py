"""Attention in compiled code, a tile of queries at a time: memory linear in the length.

Needs numba.
"""
