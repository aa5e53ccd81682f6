r"""Kernels of the softmax blocks of LLN+Diag, which join what LLN has written.

A task is a run of one head's blocks: no other task writes to their queries and keys.
"""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.diagonal_rows import (
    call_for_tile,
    consecutive,
    join_rows,
    list_block,
    listed_address,
    pack_listed,
)
from gibbsian.attention.lln.cpu.features import (
    BLOCK,
    BYTES,
    address_of,
    head_start,
    padded,
    rescale,
    take,
    tile_rows,
)
from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, TILE_ROWS, maximum

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_NO_KEY = np.float32(-np.inf)


def scratch_size(head_dim: int, value_dim: int, block_size: int) -> int:
    """Numbers that a worker of any kernel of this module needs."""
    width, value_width = (-(-size // PANEL) * PANEL for size in (head_dim, value_dim))
    keys = -(-block_size // PANEL) * PANEL + TILE_ROWS
    return (3 * keys + 2 * BLOCK) * (width + value_width) + 2 * BLOCK * keys


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
def larger(x: float, y: float) -> float:
    """One comparison. A NaN may be lost here; the sum of exponentials is NaN then."""
    return x if x > y else y


@kernel
def write_column_softmax(scores: Any, count: int, width: int, scale: float, share: float) -> None:
    """Turns scores into softmax weights down the first `width` columns, times `share`.

    Many columns at once: nothing is summed or compared across the lanes of a vector. Four rows are
    compared at once: the largest so far is read and written once for the four.

    Args:
        scores: its two last rows are scratch.
        count: rows that are summed.
        width: a multiple of `LANES`.
        scale: of the scores.
        share: sum of a column.
    """
    top, total = scores[-2], scores[-1]
    for j in range(width):
        top[j] = _NO_KEY
        total[j] = _ZERO
    whole = count // 4 * 4
    for c in range(0, whole, 4):
        first, second, third, fourth = scores[c], scores[c + 1], scores[c + 2], scores[c + 3]
        for j in range(width):
            x = larger(scale * first[j], scale * second[j])
            y = larger(scale * third[j], scale * fourth[j])
            top[j] = larger(top[j], larger(x, y))
    for c in range(whole, count):
        row = scores[c]
        for j in range(width):
            top[j] = larger(top[j], scale * row[j])
    for c in range(count):
        row = scores[c]
        for j in range(width):
            x = exp(scale * row[j] - top[j])
            row[j] = x
            total[j] += x
    for j in range(width):
        total[j] = share / total[j]
    for c in range(count):
        row = scores[c]
        for j in range(width):
            row[j] *= total[j]


@kernel
def hide_later(scores: Any, count: int, last_list: Any, scale: float) -> None:
    """Scores times `scale`, -inf for keys beyond a query's last; a query is a column."""
    for c in range(count):
        for j in range(last_list.size):
            scores[c, j] = _NO_KEY if c > last_list[j] else scale * scores[c, j]


@kernel
def average_blocks(
    head: int,
    worker: int,
    first: int,
    stop: int,
    sizes: Any,
    tensors: Any,
    blocks: Any,
    keep: float,
    output: Any,
) -> None:
    """Adds half the softmax of some blocks to `keep` times LLN's rows of their queries."""
    heads, head_dim, value_dim, num_queries, num_keys = sizes
    queries, query_strides, keys, key_strides, values, value_strides = tensors
    block_size, offset, by_rank, is_causal, scale, places, counts, scratch, lists = blocks
    count = num_keys if places.shape[1] == 0 else counts[head]
    width, value_width = padded(head_dim), padded(value_dim)
    space, key_list = scratch[worker], lists[worker, 0]
    query_list, last_list = lists[worker, 1], lists[worker, 2]
    tall = block_size + TILE_ROWS
    scores = take(space, 0, tall + 2, BLOCK)
    key_block = take(space, (tall + 2) * BLOCK, tall, width)
    space = space[(tall + 2) * BLOCK + tall * width :]
    value_block = take(space, 0, tall, value_width)
    block = take(space, tall * value_width, BLOCK, value_width)
    panels = space[(tall + BLOCK) * value_width :]
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
        key_address, key_distance = listed_address(
            keys, key_start, key_step, key_list, num, head_dim, key_block
        )
        value_address, value_distance = listed_address(
            values, value_start, value_step, key_list, num, value_dim, value_block
        )
        for start in range(0, found, BLOCK):
            rows = min(BLOCK, found - start)
            listed = query_list[start : start + rows]
            pack_listed(queries, query_start, query_step, listed, rows, head_dim, panels)
            # absent keys: what comes next is not known here, and does not matter
            ahead = (b + 1) * block_size + start
            for r in range(0, tile_rows(num), TILE_ROWS):
                if r < rows:
                    call_for_tile(keys, key_start, key_step, ahead + r, num_keys, head_dim)
                multiply(
                    key_address + r * key_distance * BYTES,
                    key_distance,
                    1,
                    panels.ctypes.data,
                    head_dim * PANEL,
                    PANEL,
                    address_of(scores, r * BLOCK),
                    BLOCK,
                    TILE_ROWS,
                    head_dim,
                    padded(rows),
                    0,
                )
            rest = scale
            if is_causal == 1:
                hide_later(scores, num, last_list[start : start + rows], scale)
                rest = _ONE
            write_column_softmax(scores, num, padded(rows), rest, _HALF)
            in_place, onto, target = consecutive(listed, rows, value_dim), 0, address_of(block, 0)
            if in_place:
                place, onto = out_start + listed[0] * value_dim, 1
                target = address_of(output, place)
                if keep != _ONE:
                    rescale(output[place:][: rows * value_dim], keep)
            for r in range(0, tile_rows(rows), TILE_ROWS):
                call_for_tile(values, value_start, value_step, ahead + r, num_keys, value_dim)
                multiply(
                    address_of(scores, r),
                    1,
                    BLOCK,
                    value_address,
                    PANEL,
                    value_distance,
                    target + r * value_width * BYTES,
                    value_width,
                    TILE_ROWS,
                    num,
                    value_width,
                    onto,
                )
            if not in_place:
                join_rows(output, out_start, listed, rows, value_dim, block, keep)


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
    average_blocks(task // segments, worker, first, stop, sizes, tensors, blocks, _HALF, output)
