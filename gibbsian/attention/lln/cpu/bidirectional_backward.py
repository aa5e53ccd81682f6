"""Backward kernels of `gibbsian.attention.lln.cpu.bidirectional`: queries first, then keys.

Derivation: docs/derivations/lln.md#kernels.
"""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.bidirectional import SEGMENT
from gibbsian.attention.lln.cpu.diagonal_backward import differentiate_blocks
from gibbsian.attention.lln.cpu.features import (
    BLOCK,
    add_product,
    finite_shift,
    head_start,
    keep_product,
    mean_slope,
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

_ZERO = np.float32(0)
_NO_KEY = np.float32(-np.inf)


@kernel
def differentiate_queries(
    task: int,
    worker: int,
    segments: int,
    heads: int,
    head_dim: int,
    value_dim: int,
    num_queries: int,
    queries: Any,
    query_strides: Any,
    upstream: Any,
    upstream_strides: Any,
    shares: Any,
    share_strides: Any,
    scales: Any,
    memory: Any,
    sums: Any,
    grad_query: Any,
    grad_memories: Any,
    grad_masses: Any,
    grad_scales: Any,
    scratch: Any,
) -> None:
    """One segment's gradient in its queries, and its part of those in the state and the scale."""
    head = task // segments
    first = task % segments * SEGMENT
    stop = min(num_queries, first + SEGMENT)
    width, value_width = padded(head_dim), padded(value_dim)
    space = scratch[worker]
    features = take(space, 0, BLOCK, width)
    slopes = take(space, BLOCK * width, BLOCK, width)
    block = take(space, 2 * BLOCK * width, BLOCK, value_width)
    shift = space[BLOCK * (2 * width + value_width) :][:width]
    part = take(space, BLOCK * (2 * width + value_width) + width, width, value_width)
    panels = space[BLOCK * (2 * width + value_width) + width + width * value_width :]
    write_transposed(memory[head], width, value_dim, panels)
    finite_shift(sums[head, 0], shift)
    mass = sums[head, 1]
    query_start, query_step = head_start(query_strides, head, heads), query_strides[2]
    up_start, up_step = head_start(upstream_strides, head, heads), upstream_strides[2]
    share_start = head_start(share_strides, head, heads)
    grad_memory, grad_mass = grad_memories[task], grad_masses[task]
    grad_memory[:] = _ZERO
    grad_mass[:] = _ZERO
    scale = scales[head]
    grad_scale = 0.0
    for start in range(first, stop, BLOCK):
        count = min(BLOCK, stop - start)
        address, step = rows_address(
            upstream, up_start + start * up_step, up_step, count, value_dim, block
        )
        multiply(
            address,
            step,
            1,
            panels.ctypes.data,
            value_dim * PANEL,
            PANEL,
            slopes.ctypes.data,
            width,
            tile_rows(count),
            value_dim,
            width,
            0,
        )
        for r in range(count):
            at = query_start + (start + r) * query_step
            out = (head * num_queries + start + r) * head_dim
            row, feature = queries[at : at + head_dim], features[r]
            inverse = write_query_row(row, scale, shift, mass, head_dim, feature)
            mean = mean_slope(feature, slopes[r], mass, inverse)
            rescale(feature, inverse * shares[share_start + (start + r) * share_strides[2]])
            grad_scale += write_query_gradient(
                row, feature, slopes[r], mean, mass, scale, grad_query[out : out + head_dim]
            )
            for f in range(width):
                grad_mass[f] -= mean * feature[f]
        add_product(features.ctypes.data, 1, width, address, step, count, part, grad_memory)
    grad_scales[task] = grad_scale


@kernel
def differentiate_keys(
    task: int,
    worker: int,
    segments: int,
    rows_a_task: int,
    rows_a_part: int,
    heads: int,
    head_dim: int,
    value_dim: int,
    num_keys: int,
    keys: Any,
    key_strides: Any,
    values: Any,
    value_strides: Any,
    present: Any,
    present_strides: Any,
    scales: Any,
    sums: Any,
    grad_memory: Any,
    grad_mass: Any,
    grad_scales: Any,
    scratch: Any,
    sizes: Any,
    tensors: Any,
    blocks: Any,
    upstream: Any,
    upstream_strides: Any,
    gradients: Any,
) -> None:
    """One segment's gradients in its keys and values, and its part of the one in the scale."""
    head = task // segments
    first = task % segments * rows_a_task
    space = scratch[worker]
    width = padded(head_dim)
    shift = space[:width]
    finite_shift(sums[head, 0], shift)
    stop = min(num_keys, first + rows_a_task)
    _, grad_key, grad_value = gradients
    block_size, grad_scale = blocks[0], 0.0
    for part in range(first, stop, rows_a_part):
        end = min(stop, part + rows_a_part)
        grad_scale += give_keys_gradients(
            part,
            end,
            head_dim,
            value_dim,
            keys,
            head_start(key_strides, head, heads),
            key_strides[2],
            values,
            head_start(value_strides, head, heads),
            value_strides[2],
            present,
            head_start(present_strides, head, heads),
            scales[head],
            shift,
            grad_memory[head],
            grad_mass[head],
            grad_key,
            head * num_keys * head_dim,
            grad_value,
            head * num_keys * value_dim,
            space[width:],
        )
        if block_size > 0:
            differentiate_blocks(
                head,
                worker,
                part // block_size,
                -(-end // block_size),
                sizes,
                tensors,
                blocks,
                upstream,
                upstream_strides,
                gradients,
            )
    grad_scales[task] = grad_scale


@kernel
def give_keys_gradients(
    first: int,
    stop: int,
    head_dim: int,
    value_dim: int,
    keys: Any,
    key_start: int,
    key_step: int,
    values: Any,
    value_start: int,
    value_step: int,
    present: Any,
    seen: int,
    scale: float,
    shift: Any,
    grad_memory: Any,
    grad_mass: Any,
    grad_key: Any,
    grad_key_start: int,
    grad_value: Any,
    grad_value_start: int,
    space: Any,
) -> float:
    """Gradients in the keys from `first` to `stop` and their values from that in their state.

    Returns:
        Their part of the gradient in the scale.
    """
    width, value_width = grad_memory.shape
    features = take(space, 0, BLOCK, width)
    slopes = take(space, BLOCK * width, BLOCK, width)
    block = take(space, 2 * BLOCK * width, BLOCK, value_width)
    panels = space[BLOCK * (2 * width + value_width) :]
    write_transposed(grad_memory, width, value_dim, panels)
    grad_scale = 0.0
    for start in range(first, stop, BLOCK):
        count = min(BLOCK, stop - start)
        write_key_features(
            keys, key_start, key_step, present, seen, start, count, head_dim, scale, shift, features
        )
        address, step = rows_address(
            values, value_start + start * value_step, value_step, count, value_dim, block
        )
        multiply(
            address,
            step,
            1,
            panels.ctypes.data,
            value_dim * PANEL,
            PANEL,
            slopes.ctypes.data,
            width,
            tile_rows(count),
            value_dim,
            width,
            0,
        )
        for r in range(count):
            at, out = key_start + (start + r) * key_step, grad_key_start + (start + r) * head_dim
            grad_scale += write_key_gradient(
                keys[at : at + head_dim],
                features[r],
                slopes[r],
                grad_mass,
                scale,
                grad_key[out : out + head_dim],
            )
        place = grad_value_start + start * value_dim
        multiply(
            features.ctypes.data,
            width,
            1,
            grad_memory.ctypes.data,
            PANEL,
            value_width,
            product_address(grad_value, place, count, value_dim, block),
            value_width,
            tile_rows(count),
            head_dim,
            value_width,
            0,
        )
        keep_product(grad_value, place, count, value_dim, block)
    return grad_scale
