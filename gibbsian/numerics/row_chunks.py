"""Rows a few at a time, so that the temporaries of a long formula stay in the cache.

A formula of twenty elementwise steps over a large tensor writes twenty large tensors: on a CPU that
is bound by memory, and by the cost of new pages. Written in place over a few rows at a time it is
bound by arithmetic.
"""

from collections.abc import Iterator

from torch import Tensor

_ELEMENTS = 1 << 18
"""Elements of a chunk, 1 MiB of float32: small enough for the cache, large enough for threads."""


def row_chunks(rows: Tensor) -> Iterator[slice]:
    """Slices that cut (rows, states) into pieces of similar size.

    Accelerators get all the rows at once: there it is the number of kernels that costs.
    """
    count, states = rows.shape
    size = chunk_rows(rows)
    if count and states:
        yield from (slice(start, start + size) for start in range(0, count, size))


def chunk_rows(rows: Tensor) -> int:
    """Number of rows in the pieces of `row_chunks`, but for a shorter last one."""
    count, states = rows.shape
    if rows.device.type != "cpu":
        return count
    return max(1, min(count, _ELEMENTS // max(1, states)))
