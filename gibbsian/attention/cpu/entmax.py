r"""Entmax attention with a sparsity of its own for every query.

A tile of scores is computed, turned into weights row by row and mixed with the values: rows with
few weights gather them, rows with many go through a matrix product. The backward pass computes the
tile again; it needs one number a row from the forward pass, the largest log-probability.

Derivation: docs/derivations/aes.md#cpu.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.cpu.layout import (
    like,
    mask_bytes,
    problem_of,
    row_numbers,
    scratch,
    summed,
    tile_scores,
    transposed_panels,
    unit_rows,
)
from gibbsian.attention.cpu.sparse import add_rows, dot_rows, scatter_rows
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.attention.rows import MaterializedRows
from gibbsian.normalizers.cpu.row import (
    SOFTMAX_ZETA,
    candidate_window,
    keep_support,
    list_candidates,
    log_max_prob,
    row_gradient,
    row_maximum,
    softmax_in_place,
    valid_zeta,
    write_probs,
)
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, TILE_ROWS
from gibbsian.numerics.cpu.threads import num_workers, run

_DENSE = 4
"""A row is dense when more than one key in so many has weight."""

_ZERO, _INFINITY, _NAN = np.float32(0), np.float32(np.inf), np.float32(np.nan)
_BYTES = 4


@kernel
def _forward(
    task: int,
    worker: int,
    tiles: int,
    key_heads: int,
    num_queries: int,
    keys: int,
    is_causal: bool,
    scale: float,
    query: Any,
    panels: Any,
    value: Any,
    zetas: Any,
    mask: Any,
    strides: Any,
    output: Any,
    log_maxima: Any,
    supports: Any,
    scaled: Any,
    scores: Any,
    row_scratch: Any,
    positions: Any,
) -> None:
    unit, tile = task // tiles, task % tiles
    tile_rows = scores.shape[1]
    first = tile * tile_rows
    count = min(tile_rows, query.shape[1] - first)
    tile_of_scores = scores[worker]
    extent = tile_scores(
        query[unit],
        panels[unit],
        first,
        count,
        unit,
        key_heads,
        num_queries,
        keys,
        is_causal,
        scale,
        mask,
        strides,
        scaled[worker],
        tile_of_scores,
    )
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
            dense = support * _DENSE > extent
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
            # below the last dense row it is cleared again: a row beyond takes no part
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


@kernel
def _backward(
    task: int,
    worker: int,
    tiles: int,
    splits: int,
    key_heads: int,
    num_queries: int,
    keys: int,
    is_causal: bool,
    scale: float,
    needs_zeta: bool,
    query: Any,
    key: Any,
    panels: Any,
    value: Any,
    value_panels: Any,
    zetas: Any,
    mask: Any,
    strides: Any,
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
    head_dim, value_dim, padded = query.shape[2], value.shape[2], scores.shape[2]
    for tile in range(split, tiles, splits):
        first = tile * tile_rows
        count = min(tile_rows, query.shape[1] - first)
        padded_count = -(-count // TILE_ROWS) * TILE_ROWS
        extent = tile_scores(
            query[unit],
            panels[unit],
            first,
            count,
            unit,
            key_heads,
            num_queries,
            keys,
            is_causal,
            scale,
            mask,
            strides,
            scaled[worker],
            p,
        )
        depth = min(extent, keys)
        to_query, from_output = grad_rows[worker], given[worker]
        to_query[:] = _ZERO
        dense_from, dense_to = tile_rows, 0
        for i in range(count):
            from_output[i] = upstream[unit, first + i]
            if supports[unit, first + i] * _DENSE > extent or (
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
            elif support * _DENSE > extent or zeta < SOFTMAX_ZETA:
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
                grad_query[unit, first + i, k] = to_query[i, k] * scale


@torch.library.custom_op("gibbsian::entmax_attention", mutates_args=())
def entmax_attention_op(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    zeta: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixed values, and of each row the largest log-probability and the size of the support.

    Args:
        query: (batch, heads, queries, head_dim).
        key: (batch, key_heads, keys, head_dim); key_heads divides heads.
        value: (batch, key_heads, keys, value_dim).
        zeta: (batch, heads, queries).
        mask: boolean, 4 dimensions, broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i.
        scale: factor of the scores.

    Notes:
        Differentiable through the first result in query, key, value and zeta; a second derivative
        is taken by the reference.
    """
    problem = problem_of(query, key, value, is_causal, scale)
    tasks = problem.units * problem.tiles
    workers = num_workers(tasks)
    rows, padded = problem.tile_rows, problem.padded_keys
    keys = unit_rows(key, problem.keys, problem.head_dim)
    output = np.empty((problem.units, problem.rows, problem.value_dim), np.float32)
    log_maxima = np.empty((problem.units, problem.rows), np.float32)
    supports = np.empty((problem.units, problem.rows), np.float32)
    run(
        _forward,
        tasks,
        problem.tiles,
        problem.key_heads,
        problem.queries,
        problem.keys,
        is_causal,
        np.float32(scale),
        unit_rows(query, problem.rows, problem.head_dim),
        transposed_panels(keys, padded),
        unit_rows(value, problem.keys, problem.value_dim),
        row_numbers(zeta, problem),
        *mask_bytes(mask),
        output,
        log_maxima,
        supports,
        scratch(workers, rows, problem.head_dim),
        scratch(workers, rows, padded),
        scratch(workers, 2, padded),
        np.empty((workers, padded), np.int32),
    )
    shape = query.shape[:3]
    mixed = torch.from_numpy(output).view(*shape, -1)[..., : value.shape[-1]]
    return (
        mixed.to(query.dtype).contiguous(),
        torch.from_numpy(log_maxima).view(shape),
        torch.from_numpy(supports).view(shape),
    )


@entmax_attention_op.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    zeta: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    del key, zeta, mask, is_causal, scale
    numbers = query.new_empty(query.shape[:3], dtype=torch.float32)
    return (
        query.new_empty((*query.shape[:3], value.shape[-1])),
        numbers,
        torch.empty_like(numbers),
    )


@torch.library.custom_op("gibbsian::entmax_attention_backward", mutates_args=())
def _entmax_attention_backward(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    zeta: Tensor,
    mask: Tensor | None,
    log_maxima: Tensor,
    supports: Tensor,
    is_causal: bool,
    scale: float,
    needs_zeta: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem = problem_of(query, key, value, is_causal, scale)
    # few units are split among the threads, each part with gradients of its own to add up
    splits = min(problem.tiles, -(-num_workers(problem.tiles) // problem.units))
    tasks = problem.units * splits
    workers = num_workers(tasks)
    rows, padded = problem.tile_rows, problem.padded_keys
    keys = unit_rows(key, problem.keys, problem.head_dim)
    values = unit_rows(value, problem.keys, problem.value_dim)
    grad_query = np.empty((problem.units, problem.rows, problem.head_dim), np.float32)
    grad_key = np.empty((splits, problem.units, padded, problem.head_dim), np.float32)
    grad_value = np.empty((splits, problem.units, padded, problem.value_dim), np.float32)
    grad_zeta = np.empty((problem.units, problem.rows), np.float32)
    run(
        _backward,
        tasks,
        problem.tiles,
        splits,
        problem.key_heads,
        problem.queries,
        problem.keys,
        is_causal,
        np.float32(scale),
        needs_zeta,
        unit_rows(query, problem.rows, problem.head_dim),
        keys,
        transposed_panels(keys, padded),
        values,
        transposed_panels(values, padded),
        row_numbers(zeta, problem),
        *mask_bytes(mask),
        row_numbers(log_maxima, problem),
        row_numbers(supports, problem),
        unit_rows(upstream, problem.rows, problem.value_dim),
        grad_query,
        grad_key,
        grad_value,
        grad_zeta,
        scratch(workers, rows, problem.head_dim),
        scratch(workers, rows, problem.value_dim),
        scratch(workers, rows, padded),
        scratch(workers, rows, padded),
        scratch(workers, rows, problem.head_dim),
        scratch(workers, 3, padded),
        np.empty((workers, padded), np.int32),
    )
    return (
        like(grad_query, query),
        like(summed(grad_key), key),
        like(summed(grad_value), value),
        torch.from_numpy(grad_zeta).view(zeta.shape).to(zeta.dtype),
    )


@_entmax_attention_backward.register_fake
def _(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    zeta: Tensor,
    mask: Tensor | None,
    log_maxima: Tensor,
    supports: Tensor,
    is_causal: bool,
    scale: float,
    needs_zeta: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    del upstream, mask, log_maxima, supports, is_causal, scale, needs_zeta
    dense = (query.new_empty(t.shape, dtype=t.dtype) for t in (query, key, value, zeta))
    grad_query, grad_key, grad_value, grad_zeta = dense
    return grad_query, grad_key, grad_value, grad_zeta


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, is_causal, scale = inputs
    _, log_maxima, supports = output
    ctx.mark_non_differentiable(log_maxima, supports)
    ctx.save_for_backward(*tensors, log_maxima, supports)
    ctx.is_causal, ctx.scale = is_causal, scale


def _differentiate(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        # to be differentiated again: the same in plain operations
        *tensors, mask, _, _ = ctx.saved_tensors
        plain = torch.func.vjp(_plain(mask, ctx.is_causal, ctx.scale), *tensors)[1](upstream)
        return (*plain, None, None, None)
    gradients = _entmax_attention_backward(
        upstream, *ctx.saved_tensors, ctx.is_causal, ctx.scale, ctx.needs_input_grad[3]
    )
    return (*gradients, None, None, None)


def _plain(mask: Tensor | None, is_causal: bool, scale: float) -> Callable[..., Tensor]:
    def mix(query: Tensor, key: Tensor, value: Tensor, zeta: Tensor) -> Tensor:
        inputs = AttentionInputs(
            query=query,
            key=key,
            value=value,
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            dropout_p=0.0,
        )
        return MaterializedRows(inputs).mix(zeta)[0]

    return mix


entmax_attention_op.register_autograd(_differentiate, setup_context=_save)
