r"""Entmax attention, backwards: each tile of scores again, its weights from one number a row.

Rows with few weights gather and scatter, rows with many go through matrix products.
"""

from typing import Any

import numpy as np

from gibbsian.attention.cpu.entmax_forward import DENSE
from gibbsian.attention.cpu.layout import ScoreSource, tile_scores
from gibbsian.attention.cpu.sparse import add_rows, dot_rows, scatter_rows
from gibbsian.normalizers.cpu.row import (
    SOFTMAX_ZETA,
    candidate_window,
    keep_support,
    list_candidates,
    row_gradient,
    softmax_in_place,
    write_probs,
)
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, TILE_ROWS
from gibbsian.statistics.cpu.row import row_maximum

_ZERO, _NAN = np.float32(0), np.float32(np.nan)


@kernel
def differentiate_tiles(
    task: int,
    worker: int,
    tiles: int,
    splits: int,
    source: ScoreSource,
    needs_zeta: bool,
    key: Any,
    value: Any,
    value_panels: Any,
    zetas: Any,
    log_maxima: Any,
    supports: Any,
    upstream: Any,
    grad_query: Any,
    grad_key: Any,
    grad_value: Any,
    grad_zeta: Any,
    scaled: Any,
    given: Any,
    scores: Any,
    products: Any,
    grad_rows: Any,
    row_scratch: Any,
    positions: Any,
) -> None:
    """All tiles of one of the `splits` of a unit, with key and value gradients of its own.

    `key` and `value` are (units, keys, dim), `value_panels` the values transposed, `upstream` the
    gradient of the output; `log_maxima` and `supports` are what `mix_tile` gave. `grad_key` and
    `grad_value` are (splits, units, padded_keys, dim). The rest is scratch space by worker: a
    tile's queries, its upstream, scores, their gradient, the queries' gradient; three rows, and
    one of positions.
    """
    unit, split = task // splits, task % splits
    tile_rows = scores.shape[1]
    to_key, to_value = grad_key[split, unit], grad_value[split, unit]
    to_key[:] = _ZERO
    to_value[:] = _ZERO
    p, dp = scores[worker], products[worker]
    levels, weights, gradient = (
        row_scratch[worker, 0],
        row_scratch[worker, 1],
        row_scratch[worker, 2],
    )
    listed = positions[worker]
    head_dim, value_dim, padded = source.query.shape[2], value.shape[2], scores.shape[2]
    for tile in range(split, tiles, splits):
        first = tile * tile_rows
        count = min(tile_rows, source.query.shape[1] - first)
        padded_count = -(-count // TILE_ROWS) * TILE_ROWS
        extent = tile_scores(source, unit, first, count, scaled[worker], p)
        depth = min(extent, source.keys)
        to_query, from_output = grad_rows[worker], given[worker]
        to_query[:] = _ZERO
        dense_from, dense_to = tile_rows, 0
        for i in range(count):
            from_output[i] = upstream[unit, first + i]
            if supports[unit, first + i] * DENSE > extent or (
                zetas[unit, first + i] < SOFTMAX_ZETA
            ):
                dense_from, dense_to = min(dense_from, i), i + 1
        dense_from -= dense_from % TILE_ROWS
        dense_to = -(-dense_to // TILE_ROWS) * TILE_ROWS
        for i in range(count, padded_count):
            from_output[i] = _ZERO
        dense_rows = dense_to - dense_from
        if dense_to > 0:
            multiply(
                from_output[dense_from:].ctypes.data,
                value_dim,
                1,
                value_panels[unit].ctypes.data,
                value_dim * PANEL,
                PANEL,
                dp[dense_from:].ctypes.data,
                padded,
                dense_rows,
                value_dim,
                extent,
                0,
            )
        for i in range(count):
            row, drow = p[i], dp[i]
            zeta = max(zetas[unit, first + i], _ZERO)
            log_max = log_maxima[unit, first + i]
            support = supports[unit, first + i]
            grad_zeta[unit, first + i] = _ZERO
            in_range = dense_from <= i < dense_to
            if np.isnan(log_max):
                # as in the reference, where every weight of the row is NaN
                grad_zeta[unit, first + i] = _NAN
                to_query[i] = _NAN
                to_key[:] = _NAN
                to_value[:] = _NAN
                if in_range:
                    row[:extent] = _ZERO
                    drow[:extent] = _ZERO
            elif support == 0:
                if in_range:
                    row[:extent] = _ZERO
                    drow[:extent] = _ZERO
            elif support * DENSE > extent or zeta < SOFTMAX_ZETA:
                largest = row_maximum(row, extent)
                for j in range(extent):
                    levels[j] = row[j] - largest
                if zeta < SOFTMAX_ZETA:
                    softmax_in_place(row, extent, largest)
                else:
                    write_probs(levels, extent, zeta, log_max, row)
                grad_zeta[unit, first + i] = row_gradient(
                    levels, row, drow, extent, zeta, log_max, needs_zeta
                )
            else:
                largest = row_maximum(row, extent)
                window = candidate_window(zeta, log_max)
                found = list_candidates(row, extent, largest, window, levels, listed)
                write_probs(levels, found, zeta, log_max, weights)
                found = keep_support(levels, listed, weights, found)
                dot_rows(from_output[i], listed, found, value[unit], gradient)
                grad_zeta[unit, first + i] = row_gradient(
                    levels, weights, gradient, found, zeta, log_max, needs_zeta
                )
                add_rows(gradient, listed, found, key[unit], to_query[i])
                scatter_rows(gradient, listed, found, scaled[worker, i], to_key)
                scatter_rows(weights, listed, found, from_output[i], to_value)
                if in_range:
                    row[:extent] = _ZERO
                    drow[:extent] = _ZERO
        if dense_to > 0:
            for i in range(count, padded_count):
                p[i, :extent] = _ZERO
                dp[i, :extent] = _ZERO
            multiply(
                dp[dense_from:].ctypes.data,
                padded,
                1,
                key[unit].ctypes.data,
                PANEL,
                head_dim,
                to_query[dense_from:].ctypes.data,
                head_dim,
                dense_rows,
                depth,
                head_dim,
                1,
            )
            multiply(
                dp[dense_from:].ctypes.data,
                1,
                padded,
                scaled[worker, dense_from:].ctypes.data,
                PANEL,
                head_dim,
                to_key.ctypes.data,
                head_dim,
                extent,
                dense_rows,
                head_dim,
                1,
            )
            multiply(
                p[dense_from:].ctypes.data,
                1,
                padded,
                from_output[dense_from:].ctypes.data,
                PANEL,
                value_dim,
                to_value.ctypes.data,
                value_dim,
                extent,
                dense_rows,
                value_dim,
                1,
            )
        for i in range(count):
            for k in range(head_dim):
                grad_query[unit, first + i, k] = to_query[i, k] * source.scale
