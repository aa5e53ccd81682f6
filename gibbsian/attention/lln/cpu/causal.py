r"""Kernel of LLN where no query sees the keys after it: a scan over chunks of one head.

Chunks and their shifts: `gibbsian.attention.lln.cpu.causal_chunks`.
"""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.causal_chunks import begin_chunk, hide_later, scale_rows, sum_past
from gibbsian.attention.lln.cpu.causal_rows import head_rows, lay_out
from gibbsian.attention.lln.cpu.diagonal import average_blocks
from gibbsian.attention.lln.cpu.features import (
    add_product,
    clear_rows,
    keep_product,
    product_address,
    rescale,
    rows_address,
    write_query_row,
    write_transposed,
)
from gibbsian.attention.lln.cpu.products import multiply_panels, multiply_rows, place
from gibbsian.numerics.cpu.jit import kernel

_ZERO, _HALF = np.float32(0), np.float32(0.5)


@kernel
def attend_causally(
    head: int,
    worker: int,
    offset: int,
    marks: Any,
    scales: Any,
    scratch: Any,
    sizes: Any,
    tensors: Any,
    blocks: Any,
    output: Any,
) -> None:
    """Output of one head; `output` is flat and contiguous."""
    rows = head_rows(head, sizes, tensors, marks, scales, offset)
    head_dim, value_dim, num_queries = rows.head_dim, rows.value_dim, rows.num_queries
    queries, query_step, query_scale = rows.queries, rows.query_step, rows.query_scale
    values, value_step = rows.values, rows.value_step
    space = lay_out(scratch[worker], head_dim, value_dim)
    memory, mass, shift = space.memory, space.mass, space.shift
    chunk_mass, seen_mass = space.chunk_mass, space.seen_mass
    key_features, features, weights = space.key_features, space.features, space.weights
    width, value_width = memory.shape
    out_start = head * num_queries * value_dim
    output[out_start : out_start + rows.blind * value_dim] = _ZERO
    sum_past(rows, space)
    block_size, done = blocks[0], 0
    start = rows.blind
    while start < num_queries:
        count, num, fades = begin_chunk(rows, space, start)
        if fades:
            scale_rows(memory, space.factors)
        for r in range(count):
            if r < num:
                for f in range(width):
                    chunk_mass[f] += key_features[r, f]
            for f in range(width):
                seen_mass[f] = mass[f] + chunk_mass[f]
            at = (start + r) * query_step
            inverse = write_query_row(
                queries[at : at + head_dim], query_scale, shift, seen_mass, head_dim, features[r]
            )
            rescale(features[r], inverse)
        clear_rows(features, count)
        out = out_start + start * value_dim
        target = product_address(output, out, count, value_dim, space.block), value_width
        multiply_rows(place(features), place(memory), target, count, head_dim, value_width, 0)
        if num > 0:
            write_transposed(key_features, num, head_dim, space.panels)
            multiply_panels(place(features), space.panels, place(weights), count, head_dim, num)
            hide_later(weights, count)
            value_rows = rows_address(
                values, (start + offset) * value_step, value_step, num, value_dim, space.value_block
            )
            multiply_rows(place(weights), value_rows, target, count, num, value_width, 1)
            address, step = value_rows
            add_product(key_features.ctypes.data, 1, width, address, step, num, space.part, memory)
            for f in range(width):
                mass[f] += chunk_mass[f]
        keep_product(output, out, count, value_dim, space.block)
        start += count
        if block_size > 0 and (start == num_queries or start >= (done + 1) * block_size):
            # while the rows are near; the last block may be shorter
            ready = -(-start // block_size) if start == num_queries else start // block_size
            average_blocks(head, worker, done, ready, sizes, tensors, blocks, _HALF, output)
            done = ready
