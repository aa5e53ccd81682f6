r"""Entmax attention, forwards: a tile of scores, its weights row by row, the values mixed.

Rows with few weights gather their values, rows with many go through a matrix product.
"""

from typing import Any

import numpy as np

from gibbsian.attention.cpu.layout import ScoreSource, tile_scores
from gibbsian.attention.cpu.sparse import add_rows
from gibbsian.normalizers.cpu.row import (
    SOFTMAX_ZETA,
    candidate_window,
    keep_support,
    list_candidates,
    log_max_prob,
    softmax_in_place,
    valid_zeta,
    write_probs,
)
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, TILE_ROWS
from gibbsian.statistics.cpu.row import row_maximum

DENSE = 4
"""A row is dense when more than one key in so many has weight."""

_ZERO, _INFINITY, _NAN = np.float32(0), np.float32(np.inf), np.float32(np.nan)
_BYTES = 4


@kernel
def mix_tile(
    task: int,
    worker: int,
    tiles: int,
    source: ScoreSource,
    value: Any,
    zetas: Any,
    output: Any,
    log_maxima: Any,
    supports: Any,
    scaled: Any,
    scores: Any,
    row_scratch: Any,
    positions: Any,
) -> None:
    """One tile: its outputs, and of each row the largest log-probability and the support's size.

    `task` is a unit and one of its `tiles`; `value` and `output` are (units, length, value_dim),
    numbers of a row (units, rows). The rest is scratch space by worker: `scaled` (tile_rows,
    head_dim), `scores` (tile_rows, padded_keys), two rows and one of positions.
    """
    unit, tile = task // tiles, task % tiles
    tile_rows = scores.shape[1]
    first = tile * tile_rows
    count = min(tile_rows, source.query.shape[1] - first)
    tile_of_scores = scores[worker]
    extent = tile_scores(source, unit, first, count, scaled[worker], tile_of_scores)
    levels, weights = row_scratch[worker, 0], row_scratch[worker, 1]
    listed = positions[worker]
    dense_from, dense_to = tile_rows, 0
    for i in range(count):
        row = tile_of_scores[i]
        given = zetas[unit, first + i]
        zeta = max(given, _ZERO)
        mixed = output[unit, first + i]
        mixed[:] = _ZERO
        largest = row_maximum(row, extent)
        support, log_max = 0, _ZERO
        dense = False
        if largest == -_INFINITY:
            pass
        elif not (largest < _INFINITY and valid_zeta(given)):
            log_max = _NAN
            mixed[:] = _NAN
        elif zeta < SOFTMAX_ZETA:
            support, log_max = softmax_in_place(row, extent, largest)
            dense = True
        else:
            window = candidate_window(zeta, _ZERO)
            found = list_candidates(row, extent, largest, window, levels, listed)
            found, log_max = log_max_prob(levels, listed, found, zeta)
            write_probs(levels, found, zeta, log_max, weights)
            support = keep_support(levels, listed, weights, found)
            dense = support * DENSE > extent
            if dense:
                row[:extent] = _ZERO
                for c in range(support):
                    row[listed[c]] = weights[c]
            else:
                add_rows(weights, listed, support, value[unit], mixed)
        log_maxima[unit, first + i] = log_max
        supports[unit, first + i] = support
        if dense:
            dense_from, dense_to = min(dense_from, i), i + 1
        else:
            # its own part is done: where a dense row's register tile takes it in, it adds nothing
            row[:extent] = _ZERO
    if dense_to > 0:
        dense_from -= dense_from % TILE_ROWS
        _multiply_dense(
            tile_of_scores, dense_from, dense_to, count, extent, value[unit], output[unit], first
        )


@kernel
def _multiply_dense(
    weights: Any,
    begin: int,
    end: int,
    count: int,
    extent: int,
    value: Any,
    output: Any,
    first: int,
) -> None:
    """Adds weights @ value for the tile's rows begin .. end, whole register tiles at a time."""
    # the last rows of a unit may be fewer than a register tile
    whole = begin + (end - begin) // TILE_ROWS * TILE_ROWS
    if whole < end and whole + TILE_ROWS <= count:
        whole += TILE_ROWS
    columns = value.shape[1]
    depth = min(extent, value.shape[0])
    if whole > begin:
        multiply(
            weights.ctypes.data + begin * weights.shape[1] * _BYTES,
            weights.shape[1],
            1,
            value.ctypes.data,
            PANEL,
            columns,
            output.ctypes.data + (first + begin) * columns * _BYTES,
            columns,
            whole - begin,
            depth,
            columns,
            1,
        )
    for i in range(whole, end):
        for j in range(depth):
            weight = weights[i, j]
            for k in range(columns):
                output[first + i, k] += weight * value[j, k]
