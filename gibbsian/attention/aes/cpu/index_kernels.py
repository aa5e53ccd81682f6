r"""The passes of decoding over rounded keys: approximate scores, then the candidates."""

from typing import Any

import numpy as np

from gibbsian.attention.aes.cpu.code_products import code_products
from gibbsian.attention.cpu.few_queries_kernels import (
    hide_absent,
    mix_values,
    stretch_moments,
)
from gibbsian.normalizers.cpu.row import (
    SOFTMAX_ZETA,
    candidate_window,
    keep_support,
    list_candidates,
    log_max_prob,
    valid_zeta,
    write_probs,
)
from gibbsian.numerics.cpu.elementary import LOWEST_EXPONENT, exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.simd import KEY_BLOCK, maximum

UNSETTLED = np.float32(-1)
"""In place of a support size: the row has too many candidates to look them up one by one."""

_ZERO = np.float32(0)
_LOWEST = np.float32(-np.inf)
_ABSENT = LOWEST_EXPONENT - np.float32(1)
_BLOCK = 1024


@kernel
def approximate_stretches(
    task: int,
    worker: int,
    stretches: int,
    size: int,
    owners: Any,
    inner: Any,
    numbers: Any,
    codes: Any,
    scales: Any,
    errors: Any,
    mask: Any,
    mask_strides: Any,
    group: int,
    keys: int,
    sums: Any,
    scores: Any,
    moments: Any,
    doubts: Any,
) -> None:
    """Approximate scores of one stretch of keys, their moments, and how far they may be off.

    Args:
        task: owner and stretch.
        worker: which part of `sums` is free.
        stretches: of one owner.
        size: a multiple of `KEY_BLOCK`.
        owners: (owners, 3), batch, key head and place.
        inner: (owners, rows, head_dim), scaled queries times the channels' sizes.
        numbers: (owners, rows, 3): the score of the mean key; what a key's error is multiplied by;
            what is added to it.
        codes: (batch, key_heads, blocks, head_dim, `KEY_BLOCK`) integers.
        scales: (batch, key_heads, capacity).
        errors: likewise.
        mask: as in `score_stretches`.
        mask_strides: likewise.
        group: query heads of a key head.
        keys: their number.
        sums: scratch (workers, `KEY_BLOCK`).
        scores: (owners, rows, padded keys).
        moments: (owners, rows, stretches, `STRETCH_MOMENTS`), float64.
        doubts: (owners, rows, stretches, 2), float64: the mean of the squared errors' bounds under
            the stretch's probabilities, and the largest bound.
    """
    stretch = task % stretches
    batch, head, owner = owners[task // stretches]
    rows, dim = inner.shape[1], inner.shape[2]
    first, last = stretch * size, min(keys, (stretch + 1) * size)
    partial = sums[worker]
    scale_line, error_line = scales[batch, head], errors[batch, head]
    for block in range(first, last, KEY_BLOCK):
        code = codes[batch, head, block // KEY_BLOCK]
        for row in range(rows):
            query = inner[owner, row]
            code_products(code.ctypes.data, query.ctypes.data, dim, partial.ctypes.data)
            offset = numbers[owner, row, 0]
            scored = scores[owner, row]
            for j in range(KEY_BLOCK):
                scored[block + j] = partial[j] * scale_line[block + j] + offset
    for row in range(rows):
        line = scores[owner, row]
        hide_absent(line, row, batch, head, group, rows, first, last, keys, mask, mask_strides)
        found = moments[owner, row, stretch]
        stretch_moments(line, first, last, found)
        reach, room = numbers[owner, row, 1], numbers[owner, row, 2]
        top = np.float32(found[0])
        largest, square = _ZERO, 0.0
        for block in range(first, last, _BLOCK):
            part = _ZERO
            for j in range(block, min(last, block + _BLOCK)):
                error = error_line[j] * reach + room if line[j] > _LOWEST else _ZERO
                y = maximum(line[j] - top, _ABSENT)
                part += exp(y) * error * error
                largest = maximum(largest, error)
            square += part
        doubts[owner, row, stretch, 0] = square / found[1] if found[1] > 0.0 else 0.0
        doubts[owner, row, stretch, 1] = largest


@kernel
def mix_candidates(
    task: int,
    worker: int,
    owners: Any,
    zetas: Any,
    largest: Any,
    errors: Any,
    limit: int,
    queries: Any,
    key: Any,
    key_strides: Any,
    value: Any,
    value_strides: Any,
    scores: Any,
    levels: Any,
    weights: Any,
    positions: Any,
    outputs: Any,
    supports: Any,
    visited: Any,
) -> None:
    """Exact scores of a row's candidates, threshold, weights and mixed values.

    Args:
        task: the row, counted over owners and their rows.
        worker: which part of the scratch is free.
        owners: (owners, 3), batch, key head and place.
        zetas: of all rows.
        largest: largest approximate score of all rows.
        errors: largest bound of an error of all rows.
        limit: a row with more candidates is left `UNSETTLED`.
        queries: (owners, rows, head_dim), scaled.
        key: flat.
        key_strides: of batch, head and key; channels are adjacent.
        value: flat.
        value_strides: likewise.
        scores: (rows, padded keys), approximate.
        levels: scratch (workers, padded keys).
        weights: scratch, likewise.
        positions: scratch, likewise, of integers.
        outputs: (rows, value_dim).
        supports: (rows,), receives the number of keys with a weight.
        visited: (rows,), receives the number of keys read exactly.
    """
    rows, dim = queries.shape[1], queries.shape[2]
    batch, head, owner = owners[task // rows]
    query, row, output = queries[owner, task % rows], scores[task], outputs[task]
    level, weight, position = levels[worker], weights[worker], positions[worker]
    top, error = largest[task], errors[task]
    output[:] = _ZERO
    supports[task] = UNSETTLED
    visited[task] = _ZERO
    if top == _LOWEST:
        supports[task] = _ZERO
        return
    # the true maximum may lie lower, and a true score higher, by the error each
    zeta = zetas[task]
    if not (valid_zeta(zeta) and zeta >= SOFTMAX_ZETA and error < np.float32(np.inf)):
        return
    window = candidate_window(zeta, _ZERO) + 2 * error
    found = list_candidates(row, row.shape[0], top, window, level, position)
    if found > limit:
        return
    visited[task] = found
    start = batch * key_strides[0] + head * key_strides[1]
    highest = _LOWEST
    for c in range(found):
        address = start + position[c] * key_strides[2]
        vector = key[address : address + dim]
        total = _ZERO
        for k in range(dim):
            total += query[k] * vector[k]
        level[c] = total
        highest = maximum(highest, total)
    if not highest < np.float32(np.inf):
        output[:] = np.float32(np.nan)
        supports[task] = _ZERO
        return
    for c in range(found):
        level[c] -= highest
    found, log_max = log_max_prob(level, position, found, zeta)
    write_probs(level, found, zeta, log_max, weight)
    start = batch * value_strides[0] + head * value_strides[1]
    found = keep_support(level, position, weight, found)
    supports[task] = found
    mix_values(weight, position, found, value, start, value_strides[2], output)


@kernel
def merge_doubts(moments: Any, doubts: Any, merged: Any) -> None:
    """The doubts of whole rows from those of their stretches, shapes as in `approximate_stretches`.

    Args:
        moments: (rows, stretches, `STRETCH_MOMENTS`).
        doubts: (rows, stretches, 2).
        merged: (2, rows).
    """
    rows, stretches, _ = moments.shape
    for row in range(rows):
        top, largest = -np.inf, 0.0
        for s in range(stretches):
            top = max(top, moments[row, s, 0])
            largest = max(largest, doubts[row, s, 1])
        total, square = 0.0, 0.0
        for s in range(stretches):
            if moments[row, s, 0] > -np.inf:
                weight = np.exp(moments[row, s, 0] - top) * moments[row, s, 1]
                total += weight
                square += weight * doubts[row, s, 0]
        merged[0, row] = square / total if total > 0.0 else 0.0
        merged[1, row] = largest
