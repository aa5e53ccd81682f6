r"""Kernels of the softmax blocks of LLN+Diag, which join what LLN has written.

Blocks are counted over present keys; a query belongs to the block of the key at which it stands
(docs/derivations/lln.md#diagonal-blocks). Rows are handled where they lie if they are consecutive,
else gathered. A task is a run of one head's blocks: no other task writes to their queries and keys.
"""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.features import (
    BLOCK,
    BYTES,
    head_start,
    pack_rows,
    padded,
    rescale,
    take,
    tile_rows,
)
from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import LANES, PANEL, TILE_ROWS, maximum

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_NO_KEY = np.float32(-np.inf)


def scratch_size(head_dim: int, value_dim: int, block_size: int) -> int:
    """Numbers that a worker of any kernel of this module needs."""
    width, value_width = (-(-size // PANEL) * PANEL for size in (head_dim, value_dim))
    keys = -(-block_size // PANEL) * PANEL + TILE_ROWS
    return (3 * keys + 2 * BLOCK) * (width + value_width) + 2 * BLOCK * keys


@kernel
def list_present(
    head: int,
    worker: int,
    heads: int,
    keys: int,
    present: Any,
    strides: Any,
    places: Any,
    counts: Any,
) -> None:
    """Positions of a head's present keys, in order, and their number."""
    start = head_start(strides, head, heads)
    found = 0
    for j in range(keys):
        if present[start + j] != 0:
            places[head, found] = j
            found += 1
    counts[head] = found


@kernel
def list_block(
    block: int,
    block_size: int,
    num_queries: int,
    offset: int,
    by_rank: int,
    places: Any,
    count: int,
    key_list: Any,
    query_list: Any,
    last_list: Any,
) -> tuple[int, int]:
    """Keys of a block, its queries, and the last key of the block at which each of these stands.

    Args:
        block: counts from 0.
        block_size: keys in a block.
        num_queries: of the head.
        offset: position of query 0 among the keys.
        by_rank: 1 = the last query stands at the last present key instead.
        places: of the present keys; empty = every key is present.
        count: number of present keys.
        key_list: receives positions of keys.
        query_list: receives positions of queries.
        last_list: receives, for each query, its key in the block.

    Returns:
        How many keys and queries.
    """
    num, found = 0, 0
    for rank in range(block * block_size, min(count, (block + 1) * block_size)):
        place = rank if places.size == 0 else places[rank]
        query = rank - count + num_queries if by_rank == 1 else place - offset
        key_list[num] = place
        if 0 <= query < num_queries:
            query_list[found] = query
            last_list[found] = num
            found += 1
        num += 1
    return num, found


@kernel
def consecutive(places: Any, count: int, width: int) -> bool:
    """Whether listed rows can be multiplied, and products written, where they lie."""
    return (
        places[count - 1] - places[0] == count - 1 and count % TILE_ROWS == 0 and width % LANES == 0
    )


@kernel
def listed_address(
    rows: Any, start: int, step: int, places: Any, count: int, width: int, block: Any
) -> tuple[int, int]:
    """Address and row distance of the listed rows: in place, or gathered in `block`."""
    if consecutive(places, count, width):
        return rows.ctypes.data + (start + places[0] * step) * BYTES, step
    for r in range(count):
        source, target = rows[start + places[r] * step :][:width], block[r]
        for c in range(width):
            target[c] = source[c]
        for c in range(width, target.size):
            target[c] = _ZERO
    for r in range(count, tile_rows(count)):
        block[r] = _ZERO
    return block.ctypes.data, block.shape[1]


@kernel
def pack_listed(
    rows: Any, start: int, step: int, places: Any, count: int, width: int, panels: Any
) -> None:
    """The transpose of the listed rows, as `multiply` reads its B."""
    if places[count - 1] - places[0] == count - 1:
        pack_rows(rows, start + places[0] * step, step, count, width, panels)
        return
    for r in range(padded(count)):
        place = r // PANEL * PANEL * width + r % PANEL
        for k in range(width):
            value = _ZERO
            if r < count:
                value = rows[start + places[r] * step + k]
            panels[place + k * PANEL] = value


@kernel
def write_softmax(scores: Any, visible: int, scale: float, share: float) -> None:
    """Turns scores into softmax weights of the first `visible` keys, times `share`; 0 elsewhere."""
    top = _NO_KEY
    for c in range(visible):
        x = scale * scores[c]
        scores[c] = x
        top = maximum(top, x)
    total = _ZERO
    for c in range(visible):
        x = exp(scores[c] - top)
        scores[c] = x
        total += x
    factor = share / total
    for c in range(visible):
        scores[c] *= factor
    for c in range(visible, scores.size):
        scores[c] = _ZERO


@kernel
def join_rows(
    output: Any, start: int, places: Any, count: int, width: int, block: Any, keep: float
) -> None:
    """Listed rows of `output` (contiguous): what is there times `keep`, plus the block."""
    for r in range(count):
        source, target = block[r], output[start + places[r] * width :][:width]
        for c in range(width):
            target[c] = keep * target[c] + source[c]


@kernel
def average_blocks(
    head: int,
    worker: int,
    first: int,
    stop: int,
    sizes: Any,
    tensors: Any,
    blocks: Any,
    output: Any,
) -> None:
    """Halves LLN's rows of the queries in some blocks, and adds half the softmax of theirs."""
    heads, head_dim, value_dim, num_queries, num_keys = sizes
    queries, query_strides, keys, key_strides, values, value_strides = tensors
    block_size, offset, by_rank, is_causal, scale, places, counts, scratch, lists = blocks
    count = num_keys if places.shape[1] == 0 else counts[head]
    width, value_width = padded(head_dim), padded(value_dim)
    space, key_list = scratch[worker], lists[worker, 0]
    query_list, last_list = lists[worker, 1], lists[worker, 2]
    columns = padded(block_size)
    scores = take(space, 0, BLOCK, columns)
    query_block = take(space, BLOCK * columns, BLOCK, width)
    block = take(space, BLOCK * (columns + width), BLOCK, value_width)
    space = space[BLOCK * (columns + width + value_width) :]
    value_block = take(space, 0, block_size + TILE_ROWS, value_width)
    panels = space[(block_size + TILE_ROWS) * value_width :]
    query_start, query_step = head_start(query_strides, head, heads), query_strides[2]
    key_start, key_step = head_start(key_strides, head, heads), key_strides[2]
    value_start, value_step = head_start(value_strides, head, heads), value_strides[2]
    out_start = head * num_queries * value_dim
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
        pack_listed(keys, key_start, key_step, key_list, num, head_dim, panels)
        value_address, value_distance = listed_address(
            values, value_start, value_step, key_list, num, value_dim, value_block
        )
        for start in range(0, found, BLOCK):
            rows = min(BLOCK, found - start)
            listed = query_list[start : start + rows]
            address, step = listed_address(
                queries, query_start, query_step, listed, rows, head_dim, query_block
            )
            multiply(
                address,
                step,
                1,
                panels.ctypes.data,
                head_dim * PANEL,
                PANEL,
                scores.ctypes.data,
                columns,
                tile_rows(rows),
                head_dim,
                padded(num),
                0,
            )
            for r in range(rows):
                visible = last_list[start + r] + 1 if is_causal == 1 else num
                write_softmax(scores[r], visible, scale, _HALF)
            if consecutive(listed, rows, value_dim):
                place = out_start + listed[0] * value_dim
                rescale(output[place:][: rows * value_dim], _HALF)
                multiply(
                    scores.ctypes.data,
                    columns,
                    1,
                    value_address,
                    PANEL,
                    value_distance,
                    output.ctypes.data + place * BYTES,
                    value_width,
                    rows,
                    num,
                    value_width,
                    1,
                )
            else:
                multiply(
                    scores.ctypes.data,
                    columns,
                    1,
                    value_address,
                    PANEL,
                    value_distance,
                    block.ctypes.data,
                    value_width,
                    tile_rows(rows),
                    num,
                    value_width,
                    0,
                )
                join_rows(output, out_start, listed, rows, value_dim, block, _HALF)


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
def average_some(
    task: int,
    worker: int,
    segments: int,
    blocks_a_task: int,
    sizes: Any,
    tensors: Any,
    blocks: Any,
    output: Any,
) -> None:
    """`average_blocks` of one task."""
    first = task % segments * blocks_a_task
    stop = first + blocks_a_task
    average_blocks(task // segments, worker, first, stop, sizes, tensors, blocks, output)


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
