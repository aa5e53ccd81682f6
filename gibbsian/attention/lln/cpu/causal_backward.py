"""Backward kernel of `gibbsian.attention.lln.cpu.causal`: one scan forwards, one backwards.

The first gives the gradients in the queries, the second those in keys and values; states are
recomputed, not kept. Derivation: docs/derivations/lln.md#kernels.
"""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.bidirectional import add_keys
from gibbsian.attention.lln.cpu.bidirectional_backward import give_keys_gradients
from gibbsian.attention.lln.cpu.causal import (
    choose_shift,
    decay,
    hide_later,
    scale_columns,
    scale_rows,
)
from gibbsian.attention.lln.cpu.diagonal_backward import differentiate_blocks
from gibbsian.attention.lln.cpu.features import (
    BLOCK,
    add_product,
    clear_rows,
    finite_shift,
    head_start,
    keep_product,
    mean_slope,
    pack_rows,
    padded,
    product_address,
    rescale,
    rows_address,
    take,
    tile_rows,
    write_key_features,
    write_key_gradient,
    write_query_gradient,
    write_query_row,
    write_transposed,
)
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL

_ZERO, _ONE = np.float32(0), np.float32(1)
_NO_KEY = np.float32(-np.inf)


@kernel
def differentiate_causally(
    head: int,
    worker: int,
    heads: int,
    head_dim: int,
    value_dim: int,
    num_queries: int,
    num_keys: int,
    offset: int,
    queries: Any,
    query_strides: Any,
    keys: Any,
    key_strides: Any,
    values: Any,
    value_strides: Any,
    present: Any,
    present_strides: Any,
    upstream: Any,
    upstream_strides: Any,
    shares: Any,
    share_strides: Any,
    query_scales: Any,
    key_scales: Any,
    gradients: Any,
    grad_query_scales: Any,
    grad_key_scales: Any,
    scratch: Any,
    chunk_shifts: Any,
    chunk_starts: Any,
    sizes: Any,
    tensors: Any,
    blocks: Any,
) -> None:
    """All gradients of one head.

    Besides scratch it keeps the chunks' shifts and first queries, and two numbers a query.
    """
    width, value_width = padded(head_dim), padded(value_dim)
    space = scratch[worker]
    memory = take(space, 0, width, value_width)
    memory_t = take(space, width * value_width, value_width, width)
    vectors = take(space, 2 * width * value_width, 8, width)
    largest, mass, chunk_mass, seen_mass = vectors[0], vectors[1], vectors[2], vectors[3]
    shift, previous, factors, past_shift = vectors[4], vectors[5], vectors[6], vectors[7]
    part = take(space, 2 * width * value_width + 8 * width, width, value_width)
    part_t = part.reshape(value_width, width)
    space = space[3 * width * value_width + 8 * width :]
    means, inverses = space[:num_queries], space[num_queries : 2 * num_queries]
    space = space[2 * num_queries :]
    key_features = take(space, 0, BLOCK, width)
    features = take(space, BLOCK * width, BLOCK, width)
    slopes = take(space, 2 * BLOCK * width, BLOCK, width)
    value_block = take(space, 3 * BLOCK * width, BLOCK, value_width)
    up_block = take(space, BLOCK * (3 * width + value_width), BLOCK, value_width)
    block = take(space, BLOCK * (3 * width + 2 * value_width), BLOCK, value_width)
    weights = take(space, BLOCK * (3 * width + 3 * value_width), BLOCK, padded(BLOCK))
    panels = space[BLOCK * (3 * width + 3 * value_width + padded(BLOCK)) :]
    shifts, starts = chunk_shifts[worker], chunk_starts[worker]
    query_start, query_step = head_start(query_strides, head, heads), query_strides[2]
    key_start, key_step = head_start(key_strides, head, heads), key_strides[2]
    value_start, value_step = head_start(value_strides, head, heads), value_strides[2]
    up_start, up_step = head_start(upstream_strides, head, heads), upstream_strides[2]
    share_start = head_start(share_strides, head, heads)
    seen = head_start(present_strides, head, heads)
    query_scale, key_scale = query_scales[head], key_scales[head]
    grad_query_start = head * num_queries * head_dim
    grad_key_start, grad_value_start = head * num_keys * head_dim, head * num_keys * value_dim
    columns = weights.shape[1]
    past = min(num_keys, max(0, offset))
    blind = min(num_queries, max(0, -offset))
    seen_mass[:] = _ZERO
    grad_query_scale, grad_key_scale = 0.0, 0.0
    grad_query, grad_key, grad_value = gradients
    block_size = blocks[0]

    # Forwards: the state is kept transposed, as slopes = upstream memory^T wants it.
    grad_query[grad_query_start : grad_query_start + blind * head_dim] = _ZERO
    add_keys(
        0,
        past,
        head_dim,
        value_dim,
        keys,
        key_start,
        key_step,
        values,
        value_start,
        value_step,
        present,
        seen,
        key_scale,
        memory,
        largest,
        mass,
        space,
    )
    for f in range(width):
        for v in range(value_width):
            memory_t[v, f] = memory[f, v]
    finite_shift(largest, past_shift)
    finite_shift(largest, previous)
    chunks = 0
    start = blind
    while start < num_queries:
        first = start + offset
        count = min(BLOCK, num_queries - start)
        num = min(count, max(0, num_keys - first))
        if num > 0:
            had_past = largest[0] != _NO_KEY
            length = choose_shift(
                keys,
                key_start,
                key_step,
                present,
                seen,
                first,
                num,
                head_dim,
                key_scale,
                largest,
                shift,
            )
            if length < num:
                count, num = length, length
            if had_past and decay(previous[:head_dim], shift[:head_dim], factors[:head_dim]):
                scale_columns(memory_t, factors[:head_dim])
                scale_columns(mass.reshape(1, width), factors[:head_dim])
            previous[:head_dim] = shift[:head_dim]
            write_key_features(
                keys,
                key_start,
                key_step,
                present,
                seen,
                first,
                num,
                head_dim,
                key_scale,
                previous,
                key_features,
            )
        shifts[chunks] = previous
        starts[chunks] = start
        chunks += 1
        address, step = rows_address(
            upstream, up_start + start * up_step, up_step, count, value_dim, up_block
        )
        multiply(
            address,
            step,
            1,
            memory_t.ctypes.data,
            PANEL,
            width,
            slopes.ctypes.data,
            width,
            tile_rows(count),
            value_dim,
            width,
            0,
        )
        if num > 0:
            value_at = value_start + first * value_step
            value_address, value_distance = rows_address(
                values, value_at, value_step, num, value_dim, value_block
            )
            pack_rows(values, value_at, value_step, num, value_dim, panels)
            multiply(
                address,
                step,
                1,
                panels.ctypes.data,
                value_dim * PANEL,
                PANEL,
                weights.ctypes.data,
                columns,
                tile_rows(count),
                value_dim,
                padded(num),
                0,
            )
            hide_later(weights, count)
            multiply(
                weights.ctypes.data,
                columns,
                1,
                key_features.ctypes.data,
                PANEL,
                width,
                slopes.ctypes.data,
                width,
                tile_rows(count),
                num,
                width,
                1,
            )
        chunk_mass[:] = _ZERO
        for r in range(count):
            if r < num:
                for f in range(head_dim):
                    chunk_mass[f] += key_features[r, f]
            for f in range(head_dim):
                seen_mass[f] = mass[f] + chunk_mass[f]
            at = query_start + (start + r) * query_step
            out = grad_query_start + (start + r) * head_dim
            row, feature = queries[at : at + head_dim], features[r]
            inverse = write_query_row(row, query_scale, previous, seen_mass, head_dim, feature)
            mean = mean_slope(feature, slopes[r], seen_mass, inverse)
            inverse *= shares[share_start + (start + r) * share_strides[2]]
            rescale(feature, inverse)
            means[start + r] = mean
            inverses[start + r] = inverse
            grad_query_scale += write_query_gradient(
                row,
                feature,
                slopes[r],
                mean,
                seen_mass,
                query_scale,
                grad_query[out : out + head_dim],
            )
        if num > 0:
            add_product(
                value_address,
                1,
                value_distance,
                key_features.ctypes.data,
                width,
                num,
                part_t,
                memory_t,
            )
            for f in range(head_dim):
                mass[f] += chunk_mass[f]
        start += count

    # Backwards: `memory`, `memory_t` and `mass` now hold the gradients in the later queries' state.
    memory[:] = _ZERO
    memory_t[:] = _ZERO
    mass[:] = _ZERO
    stop = num_queries
    undone = -(-num_queries // max(1, block_size))
    last = max(past, min(num_keys, num_queries + offset))
    grad_key[grad_key_start + last * head_dim : grad_key_start + num_keys * head_dim] = _ZERO
    grad_value[grad_value_start + last * value_dim : grad_value_start + num_keys * value_dim] = (
        _ZERO
    )
    for chunk in range(chunks - 1, -1, -1):
        start = starts[chunk]
        first, count = start + offset, stop - start
        num = min(count, max(0, num_keys - first))
        previous = shifts[chunk]
        if chunk < chunks - 1 and decay(
            previous[:head_dim], shifts[chunk + 1][:head_dim], factors[:head_dim]
        ):
            scale_rows(memory, factors[:head_dim])
            scale_columns(memory_t, factors[:head_dim])
            scale_columns(mass.reshape(1, width), factors[:head_dim])
        for r in range(count):
            at = query_start + (start + r) * query_step
            row = queries[at : at + head_dim]
            write_query_row(row, query_scale, previous, mass, head_dim, features[r])
            rescale(features[r], inverses[start + r])
        clear_rows(features, count)
        address, step = rows_address(
            upstream, up_start + start * up_step, up_step, count, value_dim, up_block
        )
        if num > 0:
            write_key_features(
                keys,
                key_start,
                key_step,
                present,
                seen,
                first,
                num,
                head_dim,
                key_scale,
                previous,
                key_features,
            )
            write_transposed(key_features, num, head_dim, panels)
            multiply(
                features.ctypes.data,
                width,
                1,
                panels.ctypes.data,
                head_dim * PANEL,
                PANEL,
                weights.ctypes.data,
                columns,
                tile_rows(count),
                head_dim,
                padded(num),
                0,
            )
            hide_later(weights, count)
            place = grad_value_start + first * value_dim
            target = product_address(grad_value, place, num, value_dim, block)
            multiply(
                weights.ctypes.data,
                1,
                columns,
                address,
                PANEL,
                step,
                target,
                value_width,
                tile_rows(num),
                count,
                value_width,
                0,
            )
            multiply(
                key_features.ctypes.data,
                width,
                1,
                memory.ctypes.data,
                PANEL,
                value_width,
                target,
                value_width,
                tile_rows(num),
                head_dim,
                value_width,
                1,
            )
            keep_product(grad_value, place, num, value_dim, block)
            value_at = value_start + first * value_step
            pack_rows(values, value_at, value_step, num, value_dim, panels)
            multiply(
                address,
                step,
                1,
                panels.ctypes.data,
                value_dim * PANEL,
                PANEL,
                weights.ctypes.data,
                columns,
                tile_rows(count),
                value_dim,
                padded(num),
                0,
            )
            for r in range(count):
                mean, row = means[start + r], weights[r]
                for c in range(min(r + 1, num)):
                    row[c] -= mean
            hide_later(weights, count)
            multiply(
                weights.ctypes.data,
                1,
                columns,
                features.ctypes.data,
                PANEL,
                width,
                slopes.ctypes.data,
                width,
                tile_rows(num),
                count,
                width,
                0,
            )
            value_address, value_distance = rows_address(
                values, value_at, value_step, num, value_dim, value_block
            )
            multiply(
                value_address,
                value_distance,
                1,
                memory_t.ctypes.data,
                PANEL,
                width,
                slopes.ctypes.data,
                width,
                tile_rows(num),
                value_dim,
                width,
                1,
            )
            for r in range(num):
                at = key_start + (first + r) * key_step
                out = grad_key_start + (first + r) * head_dim
                grad_key_scale += write_key_gradient(
                    keys[at : at + head_dim],
                    key_features[r],
                    slopes[r],
                    mass,
                    key_scale,
                    grad_key[out : out + head_dim],
                )
        add_product(features.ctypes.data, 1, width, address, step, count, part, memory)
        add_product(address, 1, step, features.ctypes.data, width, count, part_t, memory_t)
        for r in range(count):
            mean, row = means[start + r], features[r]
            for f in range(head_dim):
                mass[f] -= mean * row[f]
        stop = start
        if block_size > 0 and (undone - 1) * block_size >= start:
            ready = -(-start // block_size)
            differentiate_blocks(
                head,
                worker,
                ready,
                undone,
                sizes,
                tensors,
                blocks,
                upstream,
                upstream_strides,
                gradients,
            )
            undone = ready
    if past > 0:
        if chunks > 0 and decay(past_shift[:head_dim], shifts[0][:head_dim], factors[:head_dim]):
            scale_rows(memory, factors[:head_dim])
            scale_columns(mass.reshape(1, width), factors[:head_dim])
        grad_key_scale += give_keys_gradients(
            0,
            past,
            head_dim,
            value_dim,
            keys,
            key_start,
            key_step,
            values,
            value_start,
            value_step,
            present,
            seen,
            key_scale,
            past_shift,
            memory,
            mass,
            grad_key,
            grad_key_start,
            grad_value,
            grad_value_start,
            space,
        )
    grad_query_scales[head] = grad_query_scale
    grad_key_scales[head] = grad_key_scale
