r"""Kernels of LLN where no query sees the keys after it: a scan over chunks of one head.

Positions count keys; query i stands at position i + offset. The keys before the first query are
one state, as in `gibbsian.attention.lln.cpu.bidirectional`. Then a chunk of queries and the keys at
their positions is handled at a time, relative to a shift that every query of the chunk may know
(docs/derivations/lln.md#causal-form). A chunk ends early at a key that exceeds the shift by more
than `SAFE_EXCESS`.

Backward, one scan forwards gives the gradients in the queries, and one backwards those in keys and
values; states are recomputed, not kept (docs/derivations/lln.md#kernels).
"""

import math
from typing import Any

import numpy as np

from gibbsian.attention.lln.causal import SAFE_FRACTION
from gibbsian.attention.lln.cpu.bidirectional import add_keys, give_keys_gradients
from gibbsian.attention.lln.cpu.diagonal import average_blocks, differentiate_blocks
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
from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, maximum

SAFE_EXCESS = np.float32(SAFE_FRACTION * math.log(np.finfo(np.float32).max))
"""How far a key may exceed the shift of its chunk."""

_ZERO, _ONE = np.float32(0), np.float32(1)
_NO_KEY = np.float32(-np.inf)


def scratch_size(head_dim: int, value_dim: int, queries: int) -> int:
    """Numbers that a worker of any kernel of this module needs; two for each query."""
    width, value_width = (-(-size // PANEL) * PANEL for size in (head_dim, value_dim))
    block = -(-BLOCK // PANEL) * PANEL
    blocks = block * (4 * width + 4 * value_width + block)
    return blocks + 5 * width * value_width + 8 * width + 2 * queries


@kernel
def choose_shift(
    keys: Any,
    key_start: int,
    key_step: int,
    present: Any,
    seen: int,
    first: int,
    count: int,
    head_dim: int,
    scale: float,
    largest: Any,
    shift: Any,
) -> int:
    """Shift of the chunk that starts at position `first`, and (returned) its length.

    `largest`, the maximum over all earlier keys, becomes that over the chunk's keys too. There may
    be keys for part of the chunk only: `count` of them at most.
    """
    has_past = largest[0] != _NO_KEY
    finite_shift(largest, shift)
    length = 0
    for r in range(count):
        if present.size == 0 or present[seen + first + r] != 0:
            at = key_start + (first + r) * key_step
            row = keys[at : at + head_dim]
            if not has_past or r == 0:
                # The chunk's first key: its queries see it, or see no key at all.
                for f in range(head_dim):
                    shift[f] = maximum(largest[f], scale * row[f])
                has_past = True
            excess = _NO_KEY
            for f in range(head_dim):
                excess = maximum(excess, scale * row[f] - shift[f])
            if excess > SAFE_EXCESS:
                break
            for f in range(head_dim):
                largest[f] = maximum(largest[f], scale * row[f])
        length = r + 1
    return length


@kernel
def decay(shift: Any, following: Any, factors: Any) -> bool:
    """Writes exp(shift - following) <= 1; whether any is not 1."""
    changed = False
    for f in range(factors.size):
        factors[f] = exp(min(shift[f] - following[f], _ZERO))
        changed |= factors[f] != _ONE
    return changed


@kernel
def scale_rows(matrix: Any, factors: Any) -> None:
    """Row f times factor f."""
    for f in range(factors.size):
        rescale(matrix[f], factors[f])


@kernel
def scale_columns(matrix: Any, factors: Any) -> None:
    """Column f times factor f."""
    for v in range(matrix.shape[0]):
        row = matrix[v]
        for f in range(factors.size):
            row[f] *= factors[f]


@kernel
def hide_later(weights: Any, count: int) -> None:
    """Sets what is right of the diagonal to 0."""
    for r in range(count):
        weights[r, r + 1 :] = _ZERO


@kernel
def attend_causally(
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
    query_scales: Any,
    key_scales: Any,
    output: Any,
    scratch: Any,
    sizes: Any,
    tensors: Any,
    blocks: Any,
) -> None:
    """Output of one head; `output` is flat and contiguous."""
    width, value_width = padded(head_dim), padded(value_dim)
    space = scratch[worker]
    memory = take(space, 0, width, value_width)
    vectors = take(space, width * value_width, 7, width)
    largest, mass, chunk_mass = vectors[0], vectors[1], vectors[2]
    seen_mass, shift, previous, factors = vectors[3], vectors[4], vectors[5], vectors[6]
    part = take(space, width * value_width + 7 * width, width, value_width)
    space = space[2 * width * value_width + 7 * width :]
    key_features = take(space, 0, BLOCK, width)
    features = take(space, BLOCK * width, BLOCK, width)
    value_block = take(space, 2 * BLOCK * width, BLOCK, value_width)
    block = take(space, BLOCK * (2 * width + value_width), BLOCK, value_width)
    weights = take(space, BLOCK * (2 * width + 2 * value_width), BLOCK, padded(BLOCK))
    panels = space[BLOCK * (2 * width + 2 * value_width + padded(BLOCK)) :]
    query_start, query_step = head_start(query_strides, head, heads), query_strides[2]
    key_start, key_step = head_start(key_strides, head, heads), key_strides[2]
    value_start, value_step = head_start(value_strides, head, heads), value_strides[2]
    seen = head_start(present_strides, head, heads)
    query_scale, key_scale = query_scales[head], key_scales[head]
    out_start = head * num_queries * value_dim
    blind = min(num_queries, max(0, -offset))
    output[out_start : out_start + blind * value_dim] = _ZERO
    add_keys(
        0,
        min(num_keys, max(0, offset)),
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
    finite_shift(largest, previous)
    block_size, done = blocks[0], 0
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
                scale_rows(memory, factors[:head_dim])
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
        chunk_mass[:] = _ZERO
        for r in range(count):
            if r < num:
                for f in range(head_dim):
                    chunk_mass[f] += key_features[r, f]
            for f in range(head_dim):
                seen_mass[f] = mass[f] + chunk_mass[f]
            at = query_start + (start + r) * query_step
            inverse = write_query_row(
                queries[at : at + head_dim], query_scale, previous, seen_mass, head_dim, features[r]
            )
            rescale(features[r], inverse)
        clear_rows(features, count)
        place = out_start + start * value_dim
        target = product_address(output, place, count, value_dim, block)
        multiply(
            features.ctypes.data,
            width,
            1,
            memory.ctypes.data,
            PANEL,
            value_width,
            target,
            value_width,
            tile_rows(count),
            head_dim,
            value_width,
            0,
        )
        if num > 0:
            write_transposed(key_features, num, head_dim, panels)
            columns = padded(num)
            multiply(
                features.ctypes.data,
                width,
                1,
                panels.ctypes.data,
                head_dim * PANEL,
                PANEL,
                weights.ctypes.data,
                weights.shape[1],
                tile_rows(count),
                head_dim,
                columns,
                0,
            )
            hide_later(weights, count)
            address, step = rows_address(
                values, value_start + first * value_step, value_step, num, value_dim, value_block
            )
            multiply(
                weights.ctypes.data,
                weights.shape[1],
                1,
                address,
                PANEL,
                step,
                target,
                value_width,
                tile_rows(count),
                num,
                value_width,
                1,
            )
            add_product(key_features.ctypes.data, 1, width, address, step, num, part, memory)
            for f in range(head_dim):
                mass[f] += chunk_mass[f]
        keep_product(output, place, count, value_dim, block)
        start += count
        if block_size > 0 and (start == num_queries or start >= (done + 1) * block_size):
            # while the rows are near; the last block may be shorter
            ready = -(-start // block_size) if start == num_queries else start // block_size
            average_blocks(head, worker, done, ready, sizes, tensors, blocks, output)
            done = ready


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
