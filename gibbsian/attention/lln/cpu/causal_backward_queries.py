"""The scan forwards of causal LLN's backward pass: gradients in the queries."""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.causal_chunks import (
    begin_chunk,
    hide_later,
    scale_columns,
    sum_past,
)
from gibbsian.attention.lln.cpu.causal_rows import HeadRows, Scratch
from gibbsian.attention.lln.cpu.features import (
    add_product,
    mean_slope,
    pack_rows,
    rescale,
    rows_address,
    write_query_gradient,
    write_query_row,
)
from gibbsian.attention.lln.cpu.products import multiply_panels, multiply_rows, place
from gibbsian.numerics.cpu.jit import kernel

_ZERO = np.float32(0)


@kernel
def scan_queries(
    rows: HeadRows, space: Scratch, record: Any, upstream: Any, shares: Any, gradient: Any
) -> tuple[int, float]:
    """Gradient in one head's queries.

    Args:
        rows: of the head.
        space: scratch; `past_shift` is kept for `scan_keys`.
        record: receives shift and first query of every chunk, and of every query the mean slope and
            the factor of its features.
        upstream: gradient in the output, flat, and the distance of its rows.
        shares: what LLN's half is of each row, likewise.
        gradient: flat.

    Returns:
        How many chunks there were, and the gradient in the scale.
    """
    head_dim, value_dim, num_queries = rows.head_dim, rows.value_dim, rows.num_queries
    queries, query_step, query_scale = rows.queries, rows.query_step, rows.query_scale
    values, value_step = rows.values, rows.value_step
    memory_t, mass, shift = space.memory_t, space.mass, space.shift
    chunk_mass, seen_mass, part = space.chunk_mass, space.seen_mass, space.part
    key_features, features, slopes = space.key_features, space.features, space.slopes
    weights = space.weights
    value_width, width = memory_t.shape
    shifts, starts, means, inverses = record
    up, up_step = upstream
    share, share_step = shares
    gradient[: rows.blind * head_dim] = _ZERO
    grad_scale = 0.0
    sum_past(rows, space)
    space.past_shift[:] = shift
    # slopes = upstream memory^T
    for f in range(width):
        for v in range(value_width):
            memory_t[v, f] = space.memory[f, v]
    chunks, start = 0, rows.blind
    while start < num_queries:
        count, num, fades = begin_chunk(rows, space, start)
        if fades:
            scale_columns(memory_t, space.factors)
        shifts[chunks] = shift
        starts[chunks] = start
        chunks += 1
        up_rows = rows_address(up, start * up_step, up_step, count, value_dim, space.up_block)
        multiply_rows(up_rows, place(memory_t), place(slopes), count, value_dim, width, 0)
        value_at = (start + rows.offset) * value_step
        if num > 0:
            pack_rows(values, value_at, value_step, num, value_dim, space.panels)
            multiply_panels(up_rows, space.panels, place(weights), count, value_dim, num)
            hide_later(weights, count)
            multiply_rows(place(weights), place(key_features), place(slopes), count, num, width, 1)
        for r in range(count):
            if r < num:
                for f in range(width):
                    chunk_mass[f] += key_features[r, f]
            for f in range(width):
                seen_mass[f] = mass[f] + chunk_mass[f]
            i, feature = start + r, features[r]
            row = queries[i * query_step : i * query_step + head_dim]
            inverse = write_query_row(row, query_scale, shift, seen_mass, head_dim, feature)
            mean = mean_slope(feature, slopes[r], seen_mass, inverse)
            inverse *= share[i * share_step]
            rescale(feature, inverse)
            means[i] = mean
            inverses[i] = inverse
            grad_scale += write_query_gradient(
                row,
                feature,
                slopes[r],
                mean,
                seen_mass,
                query_scale,
                gradient[i * head_dim : (i + 1) * head_dim],
            )
        if num > 0:
            address, step = rows_address(
                values, value_at, value_step, num, value_dim, space.value_block
            )
            add_product(
                address,
                1,
                step,
                key_features.ctypes.data,
                width,
                num,
                part.reshape(value_width, width),
                memory_t,
            )
            for f in range(width):
                mass[f] += chunk_mass[f]
        start += count
    return chunks, grad_scale
