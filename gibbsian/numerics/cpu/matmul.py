"""Matrix products of float32 on raw addresses, out of register tiles."""

import numpy as np
from jaxtyping import Float

from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.simd import LANES, PANEL, TILE_ROWS, TILE_VECTORS, register_tile

_DEPTH_BLOCK = 128
"""Summands at a time: this many rows of a panel of B stay in the first-level cache."""

_BYTES = 4
_wide = register_tile(TILE_VECTORS)
_narrow = register_tile(1)


@kernel
def multiply(
    a: int,
    a_row: int,
    a_depth: int,
    b: int,
    b_panel: int,
    b_depth: int,
    c: int,
    c_row: int,
    rows: int,
    depth: int,
    columns: int,
    accumulate: int,
) -> None:
    """C = A B, or C += A B if `accumulate` is 1 (0: C is not read).

    Args:
        a: address of A (rows by depth); element (i, k) at i * a_row + k * a_depth.
        a_row: see there.
        a_depth: see there.
        b: address of B (depth by columns), in panels of `PANEL` columns: element (k, j) at
            (j // PANEL) * b_panel + k * b_depth + j % PANEL. A row-major matrix has
            b_panel = PANEL; `pack_transposed` gives b_panel = depth * PANEL, b_depth = PANEL.
        b_panel: see there.
        b_depth: see there.
        c: address of C (rows by columns), row-major.
        c_row: distance of its rows.
        rows: a multiple of `TILE_ROWS`.
        depth: any number >= 1.
        columns: a multiple of `LANES`.
        accumulate: 0 or 1.
    """
    for first in range(0, depth, _DEPTH_BLOCK):
        count = min(_DEPTH_BLOCK, depth - first)
        onto = 1 if first > 0 else accumulate
        a_block = a + first * a_depth * _BYTES
        for column in range(0, columns, PANEL):
            b_block = b + (column // PANEL * b_panel + first * b_depth) * _BYTES
            if columns - column >= PANEL:
                for row in range(0, rows, TILE_ROWS):
                    _wide(
                        a_block + row * a_row * _BYTES,
                        a_row,
                        a_depth,
                        b_block,
                        b_depth,
                        c + (row * c_row + column) * _BYTES,
                        c_row,
                        count,
                        onto,
                    )
            else:
                for offset in range(0, columns - column, LANES):
                    for row in range(0, rows, TILE_ROWS):
                        _narrow(
                            a_block + row * a_row * _BYTES,
                            a_row,
                            a_depth,
                            b_block + offset * _BYTES,
                            b_depth,
                            c + (row * c_row + column + offset) * _BYTES,
                            c_row,
                            count,
                            onto,
                        )


@kernel
def pack_transposed(
    matrix: Float[np.ndarray, "rows depth"], panels: Float[np.ndarray, "panels depth panel"]
) -> None:
    """Writes the transpose of `matrix` in panels of columns, the last one filled up with 0."""
    rows, depth = matrix.shape
    for panel in range(panels.shape[0]):
        first = panel * PANEL
        for column in range(PANEL):
            row = first + column
            if row < rows:
                for k in range(depth):
                    panels[panel, k, column] = matrix[row, k]
            else:
                for k in range(depth):
                    panels[panel, k, column] = np.float32(0)
