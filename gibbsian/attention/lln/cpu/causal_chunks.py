r"""What the scans of causal LLN share: the keys before the first query, and how a chunk begins.

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
from gibbsian.attention.lln.cpu.causal_rows import HeadRows, Scratch
from gibbsian.attention.lln.cpu.features import BLOCK, finite_shift, rescale, write_key_features
from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.simd import maximum

SAFE_EXCESS = np.float32(SAFE_FRACTION * math.log(np.finfo(np.float32).max))
"""How far a key may exceed the shift of its chunk."""

_ZERO, _ONE = np.float32(0), np.float32(1)
_NO_KEY = np.float32(-np.inf)


@kernel
def sum_past(rows: HeadRows, scratch: Scratch) -> None:
    """The state of the keys before the first query, and its shift."""
    add_keys(
        0,
        rows.past,
        rows.head_dim,
        rows.value_dim,
        rows.keys,
        0,
        rows.key_step,
        rows.values,
        0,
        rows.value_step,
        rows.present,
        0,
        rows.key_scale,
        scratch.memory,
        scratch.largest,
        scratch.mass,
        scratch.space,
    )
    finite_shift(scratch.largest, scratch.shift)


@kernel
def begin_chunk(rows: HeadRows, scratch: Scratch, start: int) -> tuple[int, int, bool]:
    """The chunk that starts at query `start`: its shift, the mass relative to it, its key features.

    No key of it is seen yet: `chunk_mass` is 0.

    Returns:
        How many queries and keys it has, and whether memory is still to be scaled by `factors`.
    """
    first = start + rows.offset
    count = min(BLOCK, rows.num_queries - start)
    num, fades = min(count, max(0, rows.num_keys - first)), False
    if num > 0:
        had_past = scratch.largest[0] != _NO_KEY
        length = choose_shift(rows, first, num, scratch.largest, scratch.next_shift)
        if length < num:
            count, num = length, length
        if had_past and decay(scratch.shift, scratch.next_shift, scratch.factors):
            fades = True
            scale_row(scratch.mass, scratch.factors)
        scratch.shift[:] = scratch.next_shift
        write_chunk_features(rows, first, num, scratch.shift, scratch.key_features)
    scratch.chunk_mass[:] = _ZERO
    return count, num, fades


@kernel
def choose_shift(rows: HeadRows, first: int, count: int, largest: Any, shift: Any) -> int:
    """Shift of the chunk that starts at position `first`, and (returned) its length.

    `largest`, the maximum over all earlier keys, becomes that over the chunk's keys too. There may
    be keys for part of the chunk only: `count` of them at most.
    """
    head_dim, keys, step, scale = rows.head_dim, rows.keys, rows.key_step, rows.key_scale
    present = rows.present
    has_past = largest[0] != _NO_KEY
    finite_shift(largest, shift)
    length = 0
    for r in range(count):
        if present.size == 0 or present[first + r] != 0:
            row = keys[(first + r) * step : (first + r) * step + head_dim]
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
def write_chunk_features(rows: HeadRows, first: int, count: int, shift: Any, features: Any) -> None:
    """`write_key_features` of `count` keys from position `first` on."""
    write_key_features(
        rows.keys,
        0,
        rows.key_step,
        rows.present,
        0,
        first,
        count,
        rows.head_dim,
        rows.key_scale,
        shift,
        features,
    )


@kernel
def decay(shift: Any, following: Any, factors: Any) -> bool:
    """Writes exp(shift - following) <= 1; whether any is not 1."""
    changed = False
    for f in range(factors.size):
        factors[f] = exp(min(shift[f] - following[f], _ZERO))
        changed |= factors[f] != _ONE
    return changed


@kernel
def scale_row(row: Any, factors: Any) -> None:
    """Number f times factor f."""
    for f in range(factors.size):
        row[f] *= factors[f]


@kernel
def scale_rows(matrix: Any, factors: Any) -> None:
    """Row f times factor f."""
    for f in range(factors.size):
        rescale(matrix[f], factors[f])


@kernel
def scale_columns(matrix: Any, factors: Any) -> None:
    """Column f times factor f."""
    for v in range(matrix.shape[0]):
        scale_row(matrix[v], factors)


@kernel
def hide_later(weights: Any, count: int) -> None:
    """Sets what is right of the diagonal to 0."""
    for r in range(count):
        weights[r, r + 1 :] = _ZERO
