"""Rows of queries and keys in diagonal blocks: where they stand, and how they are read and written.

Blocks are counted over present keys; a query belongs to the block of the key at which it stands
(docs/derivations/lln.md#diagonal-blocks). Rows are handled where they lie if they are consecutive,
else gathered.
"""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.features import (
    BYTES,
    address_of,
    head_start,
    pack_rows,
    padded,
    tile_rows,
)
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.simd import LANES, PANEL, TILE_ROWS, prefetch

_ZERO = np.float32(0)


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
    first, stop = block * block_size, min(count, (block + 1) * block_size)
    if places.size == 0:
        # each key at its rank, each query at its own key: `by_rank` is for absent keys
        start = max(first, offset)
        found = max(0, min(stop, offset + num_queries) - start)
        for i in range(stop - first):
            key_list[i] = first + i
        for i in range(found):
            query_list[i] = start - offset + i
            last_list[i] = start - first + i
        return stop - first, found
    found = 0
    for rank in range(first, stop):
        query = rank - count + num_queries if by_rank == 1 else places[rank] - offset
        key_list[rank - first] = places[rank]
        if 0 <= query < num_queries:
            query_list[found] = query
            last_list[found] = rank - first
            found += 1
    return stop - first, found


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
        return address_of(rows, start + places[0] * step), step
    for r in range(count):
        source, target = rows[start + places[r] * step :][:width], block[r]
        for c in range(width):
            target[c] = source[c]
        for c in range(width, target.size):
            target[c] = _ZERO
    for r in range(count, tile_rows(count)):
        block[r] = _ZERO
    return address_of(block, 0), block.shape[1]


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
def join_rows(
    output: Any, start: int, places: Any, count: int, width: int, block: Any, keep: float
) -> None:
    """Listed rows of `output` (contiguous): what is there times `keep`, plus the block."""
    for r in range(count):
        source, target = block[r], output[start + places[r] * width :][:width]
        for c in range(width):
            target[c] = keep * target[c] + source[c]


@kernel
def call_for_row(rows: Any, start: int, step: int, row: int, count: int, width: int) -> None:
    """Asks memory for a row that will be read soon, if there is one; another is worked on now.

    A few rows at a time, between products: memory takes so many requests and no more, and who asks
    for all rows of a block at once waits for them.
    """
    if 0 <= row < count:
        address = address_of(rows, start + row * step)
        for c in range(0, width, LANES):
            prefetch(address + c * BYTES)


@kernel
def call_for_tile(rows: Any, start: int, step: int, first: int, count: int, width: int) -> None:
    """`call_for_row` of the rows of a tile."""
    for row in range(first, first + TILE_ROWS):
        call_for_row(rows, start, step, row, count, width)
