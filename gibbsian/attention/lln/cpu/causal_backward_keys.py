"""The scan backwards of causal LLN's backward pass: gradients in keys and values."""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.bidirectional_backward import give_keys_gradients
from gibbsian.attention.lln.cpu.causal_chunks import (
    decay,
    hide_later,
    scale_columns,
    scale_row,
    scale_rows,
    write_chunk_features,
)
from gibbsian.attention.lln.cpu.causal_rows import HeadRows, Scratch
from gibbsian.attention.lln.cpu.diagonal_backward import differentiate_blocks
from gibbsian.attention.lln.cpu.features import (
    add_product,
    clear_rows,
    keep_product,
    pack_rows,
    product_address,
    rescale,
    rows_address,
    write_key_gradient,
    write_query_row,
    write_transposed,
)
from gibbsian.attention.lln.cpu.products import (
    multiply_panels,
    multiply_rows,
    multiply_transposed,
    place,
)
from gibbsian.numerics.cpu.jit import kernel

_ZERO = np.float32(0)


@kernel
def scan_keys(
    head: int,
    worker: int,
    rows: HeadRows,
    space: Scratch,
    record: Any,
    chunks: int,
    upstream: Any,
    grad_key: Any,
    grad_value: Any,
    call: Any,
) -> float:
    """Gradients in one head's keys and values, after `scan_queries`.

    In `space`, `memory`, `memory_t` and `mass` are here the gradients in the later queries' state.

    Args:
        head: counts through all samples.
        worker: whose scratch the diagonal blocks take.
        rows: of the head.
        space: scratch.
        record: what `scan_queries` left.
        chunks: likewise.
        upstream: gradient in the head's output, flat, and the distance of its rows.
        grad_key: flat, of this head.
        grad_value: the same.
        call: the last arguments of `differentiate_blocks`, which follows where rows are near.

    Returns:
        The gradient in the scale.
    """
    head_dim, value_dim, num_queries = rows.head_dim, rows.value_dim, rows.num_queries
    queries, query_step, query_scale = rows.queries, rows.query_step, rows.query_scale
    memory, memory_t, mass, factors = space.memory, space.memory_t, space.mass, space.factors
    features, part = space.features, space.part
    part_t = part.reshape(memory_t.shape)
    width = features.shape[1]
    shifts, starts, means, inverses = record
    up, up_step = upstream
    sizes, tensors, blocks, all_upstream, upstream_strides, gradients = call
    block_size = blocks[0]
    memory[:] = _ZERO
    memory_t[:] = _ZERO
    mass[:] = _ZERO
    # keys after the last query
    last = max(rows.past, min(rows.num_keys, num_queries + rows.offset))
    grad_key[last * head_dim :] = _ZERO
    grad_value[last * value_dim :] = _ZERO
    grad_scale = 0.0
    stop = num_queries
    undone = -(-num_queries // max(1, block_size))
    for chunk in range(chunks - 1, -1, -1):
        start, shift = starts[chunk], shifts[chunk]
        count = stop - start
        num = min(count, max(0, rows.num_keys - start - rows.offset))
        if chunk < chunks - 1 and decay(shift, shifts[chunk + 1], factors):
            scale_rows(memory, factors)
            scale_columns(memory_t, factors)
            scale_row(mass, factors)
        for r in range(count):
            at = (start + r) * query_step
            row = queries[at : at + head_dim]
            write_query_row(row, query_scale, shift, mass, head_dim, features[r])
            rescale(features[r], inverses[start + r])
        clear_rows(features, count)
        up_rows = rows_address(up, start * up_step, up_step, count, value_dim, space.up_block)
        if num > 0:
            grad_scale += give_chunk_gradients(
                rows, space, shift, start, num, up_rows, means[start:stop], grad_key, grad_value
            )
        address, step = up_rows
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
                all_upstream,
                upstream_strides,
                gradients,
            )
            undone = ready
    if rows.past > 0:
        if chunks > 0 and decay(space.past_shift, shifts[0], factors):
            scale_rows(memory, factors)
            scale_row(mass, factors)
        grad_scale += give_keys_gradients(
            0,
            rows.past,
            head_dim,
            value_dim,
            rows.keys,
            0,
            rows.key_step,
            rows.values,
            0,
            rows.value_step,
            rows.present,
            0,
            rows.key_scale,
            space.past_shift,
            memory,
            mass,
            grad_key,
            0,
            grad_value,
            0,
            space.space,
        )
    return grad_scale


@kernel
def give_chunk_gradients(
    rows: HeadRows,
    space: Scratch,
    shift: Any,
    start: int,
    num: int,
    up_rows: Any,
    means: Any,
    grad_key: Any,
    grad_value: Any,
) -> float:
    """Gradients in a chunk's keys and values: through its own queries, and through all later ones.

    Args:
        rows: of the head.
        space: `features` are the chunk's queries.
        shift: of the chunk.
        start: its first query.
        num: its keys.
        up_rows: address and distance of the gradients in its outputs.
        means: its queries' mean slopes.
        grad_key: flat, of this head.
        grad_value: the same.

    Returns:
        Their part of the gradient in the scale.
    """
    head_dim, value_dim, count = rows.head_dim, rows.value_dim, means.size
    keys, key_step, key_scale = rows.keys, rows.key_step, rows.key_scale
    values, value_step = rows.values, rows.value_step
    memory, memory_t, mass = space.memory, space.memory_t, space.mass
    key_features, features, slopes = space.key_features, space.features, space.slopes
    weights, panels, block = space.weights, space.panels, space.block
    width, value_width = memory.shape
    first = start + rows.offset
    write_chunk_features(rows, first, num, shift, key_features)
    # values: weights^T upstream + key features memory
    write_transposed(key_features, num, head_dim, panels)
    multiply_panels(place(features), panels, place(weights), count, head_dim, num)
    hide_later(weights, count)
    out = first * value_dim
    target = product_address(grad_value, out, num, value_dim, block), value_width
    multiply_transposed(place(weights), up_rows, target, num, count, value_width)
    multiply_rows(place(key_features), place(memory), target, num, head_dim, value_width, 1)
    keep_product(grad_value, out, num, value_dim, block)
    # keys: slopes of the weights^T query features + values memory^T
    value_at = first * value_step
    pack_rows(values, value_at, value_step, num, value_dim, panels)
    multiply_panels(up_rows, panels, place(weights), count, value_dim, num)
    for r in range(count):
        mean, row = means[r], weights[r]
        for c in range(min(r + 1, num)):
            row[c] -= mean
    hide_later(weights, count)
    multiply_transposed(place(weights), place(features), place(slopes), num, count, width)
    value_rows = rows_address(values, value_at, value_step, num, value_dim, space.value_block)
    multiply_rows(value_rows, place(memory_t), place(slopes), num, value_dim, width, 1)
    grad_scale = 0.0
    for r in range(num):
        j = first + r
        grad_scale += write_key_gradient(
            keys[j * key_step : j * key_step + head_dim],
            key_features[r],
            slopes[r],
            mass,
            key_scale,
            grad_key[j * head_dim : (j + 1) * head_dim],
        )
    return grad_scale
