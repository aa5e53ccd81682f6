r"""Backward kernels of the softmax blocks of LLN+Diag: they add to LLN's gradients."""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.diagonal import write_softmax
from gibbsian.attention.lln.cpu.diagonal_rows import (
    call_for_row,
    consecutive,
    join_rows,
    list_block,
    listed_address,
    pack_listed,
)
from gibbsian.attention.lln.cpu.features import (
    BLOCK,
    BYTES,
    head_start,
    padded,
    take,
    tile_rows,
)
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, TILE_ROWS

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


@kernel
def differentiate_blocks(
    head: int,
    worker: int,
    first: int,
    stop: int,
    sizes: Any,
    tensors: Any,
    blocks: Any,
    upstream: Any,
    upstream_strides: Any,
    gradients: Any,
) -> None:
    """Adds the gradients through some blocks to LLN's."""
    heads, head_dim, value_dim, num_queries, num_keys = sizes
    queries, query_strides, keys, key_strides, values, value_strides = tensors
    grad_query, grad_key, grad_value = gradients
    block_size, offset, by_rank, is_causal, scale, places, counts, scratch, lists = blocks
    count = num_keys if places.shape[1] == 0 else counts[head]
    width, value_width = padded(head_dim), padded(value_dim)
    space, key_list = scratch[worker], lists[worker, 0]
    query_list, last_list = lists[worker, 1], lists[worker, 2]
    columns, tall = padded(block_size), block_size + TILE_ROWS
    weights = take(space, 0, BLOCK, columns)
    slopes = take(space, BLOCK * columns, BLOCK, columns)
    query_block = take(space, 2 * BLOCK * columns, BLOCK, width)
    up_block = take(space, BLOCK * (2 * columns + width), BLOCK, value_width)
    block = take(space, BLOCK * (2 * columns + width + value_width), BLOCK, width)
    space = space[BLOCK * (2 * columns + 2 * width + value_width) :]
    key_block = take(space, 0, tall, width)
    key_sums = take(space, tall * width, tall, width)
    value_sums = take(space, 2 * tall * width, tall, value_width)
    key_panels = space[tall * (2 * width + value_width) :]
    value_panels = key_panels[-(-block_size // PANEL) * PANEL * head_dim :]
    query_start, query_step = head_start(query_strides, head, heads), query_strides[2]
    key_start, key_step = head_start(key_strides, head, heads), key_strides[2]
    value_start, value_step = head_start(value_strides, head, heads), value_strides[2]
    up_start, up_step = head_start(upstream_strides, head, heads), upstream_strides[2]
    grad_query_start = head * num_queries * head_dim
    grad_key_start, grad_value_start = head * num_keys * head_dim, head * num_keys * value_dim
    for b in range(first, min(stop, -(-count // block_size))):
        num, found = list_block(
            b,
            block_size,
            num_queries,
            offset,
            by_rank,
            places[head],
            count,
            key_list,
            query_list,
            last_list,
        )
        if found == 0:
            continue
        pack_listed(keys, key_start, key_step, key_list, num, head_dim, key_panels)
        pack_listed(values, value_start, value_step, key_list, num, value_dim, value_panels)
        key_address, key_distance = listed_address(
            keys, key_start, key_step, key_list, num, head_dim, key_block
        )
        for start in range(0, found, BLOCK):
            rows, onto = min(BLOCK, found - start), 1 if start > 0 else 0
            listed = query_list[start : start + rows]
            address, step = listed_address(
                queries, query_start, query_step, listed, rows, head_dim, query_block
            )
            up_address, up_distance = listed_address(
                upstream, up_start, up_step, listed, rows, value_dim, up_block
            )
            multiply(
                address,
                step,
                1,
                key_panels.ctypes.data,
                head_dim * PANEL,
                PANEL,
                weights.ctypes.data,
                columns,
                tile_rows(rows),
                head_dim,
                padded(num),
                0,
            )
            multiply(
                up_address,
                up_distance,
                1,
                value_panels.ctypes.data,
                value_dim * PANEL,
                PANEL,
                slopes.ctypes.data,
                columns,
                tile_rows(rows),
                value_dim,
                padded(num),
                0,
            )
            for r in range(rows):
                ahead = (b + 1) * block_size + start + r - offset
                call_for_row(queries, query_start, query_step, ahead, num_queries, head_dim)
                call_for_row(upstream, up_start, up_step, ahead, num_queries, value_dim)
                call_for_row(grad_query, grad_query_start, head_dim, ahead, num_queries, head_dim)
                visible = last_list[start + r] + 1 if is_causal == 1 else num
                weight, slope = weights[r], slopes[r]
                write_softmax(weight, visible, scale, _HALF)
                mean = _ZERO
                for c in range(visible):
                    mean += weight[c] * slope[c]
                mean *= np.float32(2)
                for c in range(visible):
                    slope[c] = scale * weight[c] * (slope[c] - mean)
                for c in range(visible, columns):
                    slope[c] = _ZERO
            for r in range(rows, tile_rows(rows)):
                weights[r] = _ZERO
                slopes[r] = _ZERO
            if consecutive(listed, rows, head_dim):
                place = grad_query_start + listed[0] * head_dim
                multiply(
                    slopes.ctypes.data,
                    columns,
                    1,
                    key_address,
                    PANEL,
                    key_distance,
                    grad_query.ctypes.data + place * BYTES,
                    width,
                    rows,
                    num,
                    width,
                    1,
                )
            else:
                multiply(
                    slopes.ctypes.data,
                    columns,
                    1,
                    key_address,
                    PANEL,
                    key_distance,
                    block.ctypes.data,
                    width,
                    tile_rows(rows),
                    num,
                    width,
                    0,
                )
                join_rows(grad_query, grad_query_start, listed, rows, head_dim, block, _ONE)
            multiply(
                slopes.ctypes.data,
                1,
                columns,
                address,
                PANEL,
                step,
                key_sums.ctypes.data,
                width,
                tile_rows(num),
                rows,
                width,
                onto,
            )
            multiply(
                weights.ctypes.data,
                1,
                columns,
                up_address,
                PANEL,
                up_distance,
                value_sums.ctypes.data,
                value_width,
                tile_rows(num),
                rows,
                value_width,
                onto,
            )
        # By themselves first: LLN's may be large where they are small.
        join_rows(grad_key, grad_key_start, key_list, num, head_dim, key_sums, _ONE)
        join_rows(grad_value, grad_value_start, key_list, num, value_dim, value_sums, _ONE)


@kernel
def differentiate_some(
    task: int,
    worker: int,
    segments: int,
    blocks_a_task: int,
    sizes: Any,
    tensors: Any,
    blocks: Any,
    upstream: Any,
    upstream_strides: Any,
    gradients: Any,
) -> None:
    """`differentiate_blocks` of one task."""
    first = task % segments * blocks_a_task
    stop = first + blocks_a_task
    differentiate_blocks(
        task // segments,
        worker,
        first,
        stop,
        sizes,
        tensors,
        blocks,
        upstream,
        upstream_strides,
        gradients,
    )
