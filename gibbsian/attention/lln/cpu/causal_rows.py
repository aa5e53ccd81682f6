"""What a scan of causal LLN works on: one head's rows, and the scratch of a worker."""

from typing import Any, NamedTuple

from gibbsian.attention.lln.cpu.features import BLOCK, head_start, padded, take
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.simd import PANEL


class HeadRows(NamedTuple):
    """One head's rows: flat arrays that start at its first row, and the distances of rows."""

    head_dim: int
    value_dim: int
    num_queries: int
    num_keys: int
    offset: int
    past: int
    """Keys before the first query."""
    blind: int
    """Queries before the first key."""
    queries: Any
    query_step: int
    query_scale: Any
    keys: Any
    key_step: int
    key_scale: Any
    values: Any
    value_step: int
    present: Any
    """Empty = all keys."""


@kernel
def head_rows(
    head: int, sizes: Any, tensors: Any, marks: Any, scales: Any, offset: int
) -> HeadRows:
    """The rows of one head of a call."""
    heads, head_dim, value_dim, num_queries, num_keys = sizes
    queries, query_strides, keys, key_strides, values, value_strides = tensors
    present, present_strides = marks
    return HeadRows(
        head_dim,
        value_dim,
        num_queries,
        num_keys,
        offset,
        min(num_keys, max(0, offset)),
        min(num_queries, max(0, -offset)),
        queries[head_start(query_strides, head, heads) :],
        query_strides[2],
        scales[0][head],
        keys[head_start(key_strides, head, heads) :],
        key_strides[2],
        scales[1][head],
        values[head_start(value_strides, head, heads) :],
        value_strides[2],
        present[head_start(present_strides, head, heads) :],
    )


class Scratch(NamedTuple):
    """What a scan keeps, and the blocks that it works in."""

    memory: Any
    """Of the state: (features, values)."""
    memory_t: Any
    """Its transpose."""
    part: Any
    """One more of this size, for sums."""
    largest: Any
    """The maximum of the log features of the state's keys."""
    mass: Any
    """Of the state's keys, by feature."""
    shift: Any
    """What the state and the chunk are relative to."""
    next_shift: Any
    past_shift: Any
    """That of the keys before the first query."""
    factors: Any
    """From one shift to the next."""
    chunk_mass: Any
    """Of the chunk's keys up to a query."""
    seen_mass: Any
    """Of all the keys that a query sees."""
    key_features: Any
    features: Any
    """Of queries."""
    slopes: Any
    """Gradients in features."""
    value_block: Any
    up_block: Any
    block: Any
    """For rows of a product that do not fit where they belong."""
    weights: Any
    """Of the chunk's queries by its keys."""
    panels: Any
    """What is left, for transposes."""
    space: Any
    """That of all the blocks, for kernels that lay it out themselves."""


def scratch_size(head_dim: int, value_dim: int) -> int:
    """Numbers that a worker of any scan needs."""
    width, value_width = (-(-size // PANEL) * PANEL for size in (head_dim, value_dim))
    block = -(-BLOCK // PANEL) * PANEL
    return block * (4 * width + 4 * value_width + block) + 5 * width * value_width + 8 * width


@kernel
def lay_out(space: Any, head_dim: int, value_dim: int) -> Scratch:
    """A worker's scratch."""
    width, value_width = padded(head_dim), padded(value_dim)
    square, rows, value_rows = width * value_width, BLOCK * width, BLOCK * value_width
    part = take(space, 2 * square, width, value_width)
    vectors = take(space, 3 * square, 8, width)
    blocks = space[3 * square + 8 * width :]
    value_blocks = blocks[3 * rows :]
    weights = value_blocks[3 * value_rows :]
    return Scratch(
        take(space, 0, width, value_width),
        take(space, square, value_width, width),
        part,
        vectors[0],
        vectors[1],
        vectors[2],
        vectors[3],
        vectors[4],
        vectors[5],
        vectors[6],
        vectors[7],
        take(blocks, 0, BLOCK, width),
        take(blocks, rows, BLOCK, width),
        take(blocks, 2 * rows, BLOCK, width),
        take(value_blocks, 0, BLOCK, value_width),
        take(value_blocks, value_rows, BLOCK, value_width),
        take(value_blocks, 2 * value_rows, BLOCK, value_width),
        take(weights, 0, BLOCK, padded(BLOCK)),
        weights[BLOCK * padded(BLOCK) :],
        blocks,
    )
