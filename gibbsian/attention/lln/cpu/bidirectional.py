r"""Kernels of LLN where every query sees every key: a state of all keys, read by all queries.

With Q, K the features (docs/derivations/lln.md#numerics), $M = K^T V$, $z = K^T 1$ and
$\hat Q_{if} = Q_{if} / \sum_g Q_{ig} z_g$ the output is $O = \hat Q M$. Backward, with G the
gradient in O: docs/derivations/lln.md#kernels. A task is a segment of one head's keys or queries.
"""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.diagonal import average_blocks
from gibbsian.attention.lln.cpu.features import (
    BLOCK,
    add_product,
    add_rows,
    clear_rows,
    finite_shift,
    head_start,
    keep_product,
    key_maximum,
    padded,
    product_address,
    rescale,
    rows_address,
    take,
    tile_rows,
    write_key_features,
    write_query_row,
)
from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, maximum

SEGMENT = 1024
"""Rows of a task: long enough to start a thread for, and its rows stay in the cache."""

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_NO_KEY = np.float32(-np.inf)


def scratch_size(head_dim: int, value_dim: int) -> int:
    """Numbers that a worker of any kernel of this module needs."""
    width, value_width = (-(-size // PANEL) * PANEL for size in (head_dim, value_dim))
    return BLOCK * (2 * width + 2 * value_width) + 2 * width * value_width + 4 * width


@kernel
def sum_keys(
    task: int,
    worker: int,
    segments: int,
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
    memories: Any,
    sums: Any,
    scratch: Any,
) -> None:
    """The state of one segment: `memories[task]`, and in `sums[task]` the maximum and the mass."""
    head = task // segments
    first = task % segments * SEGMENT
    add_keys(
        first,
        min(num_keys, first + SEGMENT),
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
        memories[task],
        sums[task, 0],
        sums[task, 1],
        scratch[worker],
    )


@kernel
def add_keys(
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
    memory: Any,
    largest: Any,
    mass: Any,
    space: Any,
) -> None:
    """The state of the keys from `first` to `stop` of a head."""
    width, value_width = memory.shape
    features = take(space, 0, BLOCK, width)
    block = take(space, BLOCK * width, BLOCK, value_width)
    vectors = take(space, BLOCK * (width + value_width), 2, width)
    shift, partial = vectors[0], vectors[1]
    part = take(space, BLOCK * (width + value_width) + 2 * width, width, value_width)
    memory[:] = _ZERO
    mass[:] = _ZERO
    largest[:] = _NO_KEY
    key_maximum(keys, key_start, key_step, present, seen, first, stop, head_dim, scale, largest)
    finite_shift(largest, shift)
    for start in range(first, stop, BLOCK):
        count = min(BLOCK, stop - start)
        write_key_features(
            keys, key_start, key_step, present, seen, start, count, head_dim, scale, shift, features
        )
        add_rows(features, count, partial, mass)
        address, step = rows_address(
            values, value_start + start * value_step, value_step, count, value_dim, block
        )
        add_product(features.ctypes.data, 1, width, address, step, count, part, memory)


@kernel
def merge_states(
    head: int, _: int, segments: int, memories: Any, sums: Any, memory: Any, merged: Any
) -> None:
    """The state of the union of a head's segments (docs/derivations/lln.md#states)."""
    width = memory.shape[1]
    largest, mass = merged[head, 0], merged[head, 1]
    largest[:] = _NO_KEY
    mass[:] = _ZERO
    memory[head] = _ZERO
    for s in range(head * segments, (head + 1) * segments):
        for f in range(width):
            largest[f] = maximum(largest[f], sums[s, 0, f])
    for s in range(head * segments, (head + 1) * segments):
        for f in range(width):
            if sums[s, 0, f] != _NO_KEY:
                factor = exp(sums[s, 0, f] - largest[f])
                mass[f] += factor * sums[s, 1, f]
                source, target = memories[s, f], memory[head, f]
                for c in range(target.size):
                    target[c] += factor * source[c]


@kernel
def read_queries(
    task: int,
    worker: int,
    segments: int,
    rows_a_task: int,
    rows_a_part: int,
    heads: int,
    head_dim: int,
    value_dim: int,
    num_queries: int,
    queries: Any,
    query_strides: Any,
    scales: Any,
    memory: Any,
    sums: Any,
    output: Any,
    scratch: Any,
    sizes: Any,
    tensors: Any,
    blocks: Any,
) -> None:
    """Output of one segment of a head's queries; `output` is flat and contiguous."""
    head = task // segments
    first = task % segments * rows_a_task
    stop = min(num_queries, first + rows_a_task)
    width, value_width = padded(head_dim), padded(value_dim)
    space = scratch[worker]
    features = take(space, 0, BLOCK, width)
    block = take(space, BLOCK * width, BLOCK, value_width)
    shift = space[BLOCK * (width + value_width) :][:width]
    finite_shift(sums[head, 0], shift)
    mass = sums[head, 1]
    query_start, query_step = head_start(query_strides, head, heads), query_strides[2]
    block_size = blocks[0]
    share = _HALF if block_size > 0 else _ONE
    for part in range(first, stop, rows_a_part):
        end = min(stop, part + rows_a_part)
        for start in range(part, end, BLOCK):
            count = min(BLOCK, end - start)
            for r in range(count):
                at = query_start + (start + r) * query_step
                row = queries[at : at + head_dim]
                inverse = write_query_row(row, scales[head], shift, mass, head_dim, features[r])
                rescale(features[r], share * inverse)
            clear_rows(features, count)
            place = (head * num_queries + start) * value_dim
            multiply(
                features.ctypes.data,
                width,
                1,
                memory[head].ctypes.data,
                PANEL,
                value_width,
                product_address(output, place, count, value_dim, block),
                value_width,
                tile_rows(count),
                head_dim,
                value_width,
                0,
            )
            keep_product(output, place, count, value_dim, block)
        if block_size > 0:
            average_blocks(
                head,
                worker,
                part // block_size,
                -(-end // block_size),
                sizes,
                tensors,
                blocks,
                _ONE,
                output,
            )
