"""Products of blocks of rows: `multiply`, with matrices as pairs of address and row distance.

`rows_address` gives such a pair for rows that may lie anywhere, `place` for a block of scratch.
"""

from typing import Any

from gibbsian.attention.lln.cpu.features import address_of, padded, tile_rows
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL


@kernel
def place(block: Any) -> tuple[int, int]:
    """Address and row distance of a contiguous matrix."""
    return address_of(block, 0), block.shape[1]


@kernel
def multiply_rows(
    a: Any, b: Any, c: Any, rows: int, depth: int, columns: int, accumulate: int
) -> None:
    """C = A B, or C += A B if `accumulate` is 1: `rows` times `depth` times `columns` numbers.

    Rows are filled up to a multiple of `TILE_ROWS`; `columns` is one of `LANES`.
    """
    height = tile_rows(rows)
    multiply(a[0], a[1], 1, b[0], PANEL, b[1], c[0], c[1], height, depth, columns, accumulate)


@kernel
def multiply_transposed(a: Any, b: Any, c: Any, rows: int, depth: int, columns: int) -> None:
    """C = A^T B, A having `depth` rows."""
    height = tile_rows(rows)
    multiply(a[0], 1, a[1], b[0], PANEL, b[1], c[0], c[1], height, depth, columns, 0)


@kernel
def multiply_panels(a: Any, panels: Any, c: Any, rows: int, depth: int, columns: int) -> None:
    """C = A B^T, with B's `columns` rows in panels: see `pack_rows`."""
    b, height, width = address_of(panels, 0), tile_rows(rows), padded(columns)
    multiply(a[0], a[1], 1, b, depth * PANEL, PANEL, c[0], c[1], height, depth, width, 0)
