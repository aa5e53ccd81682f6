r"""Kernels of LLN where no query sees the keys after it: a scan over chunks of one head.

Positions count keys; query i stands at position i + offset. The keys before the first query are
one state, as in `gibbsian.attention.lln.cpu.bidirectional`. Then a chunk of queries and the keys at
their positions is handled at a time, relative to a shift that every query of the chunk may know
(docs/derivations/lln.md#causal-form). A chunk ends early at a key that exceeds the shift by more
than `SAFE_EXCESS`.
"""

import math
from typing import Any

import numpy as np

from gibbsian.attention.lln.causal import SAFE_FRACTION
from gibbsian.attention.lln.cpu.bidirectional import add_keys
from gibbsian.attention.lln.cpu.diagonal import average_blocks
from gibbsian.attention.lln.cpu.features import (
    BLOCK,
    add_product,
    clear_rows,
    finite_shift,
    head_start,
    keep_product,
    padded,
    product_address,
    rescale,
    rows_address,
    take,
    tile_rows,
    write_key_features,
    write_query_row,
    write_transposed,
)
from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, maximum

SAFE_EXCESS = np.float32(SAFE_FRACTION * math.log(np.finfo(np.float32).max))
"""How far a key may exceed the shift of its chunk."""

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
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
            average_blocks(head, worker, done, ready, sizes, tensors, blocks, _HALF, output)
            done = ready
