r"""The passes of decoding over the exact keys: scores, statistics of the rows, values mixed.

Rows are (batch, key head, query of the group); keys, values and masks are flat arrays with strides,
so that a slice of a larger cache is read where it lies.
"""

from typing import Any

import numpy as np

from gibbsian.normalizers.cpu.row import (
    SOFTMAX_ZETA,
    candidate_window,
    keep_support,
    list_candidates,
    log_max_prob,
    softmax_in_place,
    valid_zeta,
    write_probs,
)
from gibbsian.numerics.cpu.elementary import LOWEST_EXPONENT, exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.simd import KEY_BLOCK, maximum

STRETCH_MOMENTS = 7
"""Of a stretch of a row: largest score m, and with y = x - m weighted by e^y: total, mean, second
and third central moment, sum of squared probabilities, number of states."""

_ZERO = np.float32(0)
_ABSENT = LOWEST_EXPONENT - np.float32(1)
"""An exponent whose exponential is exactly 0."""
_BLOCK = 1024
"""Terms summed in float32 before the sum goes on in float64, or among such sums."""


@kernel
def score_stretches(
    task: int,
    worker: int,
    stretches: int,
    size: int,
    owners: Any,
    queries: Any,
    key: Any,
    key_strides: Any,
    mask: Any,
    mask_strides: Any,
    group: int,
    keys: int,
    scores: Any,
    moments: Any,
) -> None:
    """Scores of one stretch of `size` keys against all queries of its owner, and their moments.

    Args:
        task: owner and stretch.
        worker: not used.
        stretches: of one owner.
        size: a multiple of `KEY_BLOCK`.
        owners: (owners, 3), batch, key head, and where their rows are in what follows.
        queries: (owners, rows, head_dim), scaled.
        key: flat.
        key_strides: of batch, head and key; channels are adjacent.
        mask: flat; empty = all present.
        mask_strides: of batch, query head, query and key.
        group: query heads of a key head.
        keys: their number.
        scores: (owners, rows, keys padded to a multiple of `KEY_BLOCK`).
        moments: (owners, rows, stretches, `STRETCH_MOMENTS`), float64.
    """
    stretch = task % stretches
    batch, head, owner = owners[task // stretches]
    rows, dim = queries.shape[1], queries.shape[2]
    first, last = stretch * size, min(keys, (stretch + 1) * size)
    start = batch * key_strides[0] + head * key_strides[1]
    step = key_strides[2]
    for block in range(first, last, KEY_BLOCK):
        end = min(last, block + KEY_BLOCK)
        for row in range(rows):
            query, line = queries[owner, row], scores[owner, row]
            for j in range(block, end):
                address = start + j * step
                vector = key[address : address + dim]
                total = _ZERO
                for k in range(dim):
                    total += query[k] * vector[k]
                line[j] = total
    for row in range(rows):
        line = scores[owner, row]
        hide_absent(line, row, batch, head, group, rows, first, last, keys, mask, mask_strides)
        stretch_moments(line, first, last, moments[owner, row, stretch])


@kernel
def hide_absent(
    line: Any,
    row: int,
    batch: int,
    head: int,
    group: int,
    rows: int,
    first: int,
    last: int,
    keys: int,
    mask: Any,
    mask_strides: Any,
) -> None:
    """Sets the scores of masked keys, and of the padding after the last key, to -inf."""
    if mask.shape[0] > 0:
        number = rows // group
        start = batch * mask_strides[0] + (head * group + row // number) * mask_strides[1]
        start += row % number * mask_strides[2]
        for j in range(first, last):
            if mask[start + j * mask_strides[3]] == 0:
                line[j] = np.float32(-np.inf)
    if last == keys:
        line[last:] = np.float32(-np.inf)


@kernel
def stretch_moments(line: Any, first: int, last: int, moments: Any) -> None:
    """Writes the `STRETCH_MOMENTS` moments of line[first:last]."""
    # slices: LLVM makes vectors of loops that start at 0
    part = line[first:last]
    largest = np.float32(-np.inf)
    present = np.int32(0)
    for j in range(part.shape[0]):
        largest = maximum(largest, part[j])
        present += np.int32(1) if part[j] != np.float32(-np.inf) else np.int32(0)
    moments[0] = largest
    moments[1:] = 0.0
    moments[6] = present
    if largest == np.float32(-np.inf):
        return
    total, mean = 0.0, 0.0
    for start in range(0, part.shape[0], _BLOCK):
        block = part[start : min(start + _BLOCK, part.shape[0])]
        weight, first_moment = _ZERO, _ZERO
        for j in range(block.shape[0]):
            y = block[j] - largest
            y = _ABSENT if y < _ABSENT else y
            w = exp(y)
            weight += w
            first_moment += w * y
        total += weight
        mean += first_moment
    mean /= total
    centre = np.float32(mean)
    shift = mean - centre
    second, third, squares = 0.0, 0.0, 0.0
    for start in range(0, part.shape[0], _BLOCK):
        block = part[start : min(start + _BLOCK, part.shape[0])]
        a, b, c = _ZERO, _ZERO, _ZERO
        for j in range(block.shape[0]):
            y = block[j] - largest
            y = _ABSENT if y < _ABSENT else y
            w = exp(y)
            d = y - centre
            a += w * d * d
            b += w * d * d * d
            c += w * w
        second += a
        third += b
        squares += c
    second, third = second / total, third / total
    moments[1] = total
    moments[2] = mean
    # about the mean itself, not its float32 rounding
    moments[3] = second - shift * shift
    moments[4] = third - 3 * shift * second
    moments[5] = squares / (total * total)


@kernel
def merge_moments(moments: Any, statistics: Any) -> None:
    """Statistics of whole rows, in the order of `gibbsian.statistics.cpu.row.MOMENTS`.

    Args:
        moments: (rows, stretches, `STRETCH_MOMENTS`).
        statistics: (7, rows) float32.
    """
    rows, stretches, _ = moments.shape
    for row in range(rows):
        parts = moments[row]
        largest, present = -np.inf, 0.0
        for s in range(stretches):
            # written so that NaN stays
            if not parts[s, 0] <= largest:
                largest = parts[s, 0]
                if np.isnan(largest):
                    break
        total, mean = 0.0, 0.0
        for s in range(stretches):
            present += parts[s, 6]
            if parts[s, 0] > -np.inf:
                offset = parts[s, 0] - largest
                weight = np.exp(offset) * parts[s, 1]
                total += weight
                if weight > 0.0:
                    mean += weight * (parts[s, 2] + offset)
        statistics[0, row] = largest
        statistics[6, row] = present
        if largest == -np.inf:
            statistics[1:6, row] = _ZERO
            continue
        if not largest < np.inf:
            statistics[1:6, row] = np.float32(np.nan)
            continue
        mean /= total
        second, third, squares = 0.0, 0.0, 0.0
        for s in range(stretches):
            offset = parts[s, 0] - largest
            if parts[s, 0] > -np.inf:
                share = np.exp(offset) * parts[s, 1] / total
                if share > 0.0:
                    d = parts[s, 2] + offset - mean
                    second += share * (parts[s, 3] + d * d)
                    third += share * (parts[s, 4] + 3 * d * parts[s, 3] + d * d * d)
                    squares += share * share * parts[s, 5]
        statistics[1, row] = np.log(total)
        statistics[2, row] = -np.log(squares)
        statistics[3, row] = np.log(total) - mean
        statistics[4, row] = second
        statistics[5, row] = third


@kernel
def mix_rows(
    task: int,
    worker: int,
    which: Any,
    owners: Any,
    zetas: Any,
    largest: Any,
    value: Any,
    value_strides: Any,
    keys: int,
    scores: Any,
    levels: Any,
    weights: Any,
    positions: Any,
    outputs: Any,
    supports: Any,
) -> None:
    """Threshold, weights and mixed values of one row.

    Args:
        task: index into `which`.
        worker: which part of the scratch is free.
        which: rows, counted over owners and their rows.
        owners: (owners, 3), batch, key head and place.
        zetas: of all rows.
        largest: largest score of all rows.
        value: flat.
        value_strides: of batch, head and key; channels are adjacent.
        keys: their number.
        scores: (rows, padded keys).
        levels: scratch (workers, padded keys) for scores relative to the largest.
        weights: scratch, likewise.
        positions: scratch, likewise, of integers.
        outputs: (tasks, value_dim).
        supports: (tasks,), receives the number of keys with a weight.
    """
    number = which[task]
    owner = number // (zetas.shape[0] // owners.shape[0])
    start = owners[owner, 0] * value_strides[0] + owners[owner, 1] * value_strides[1]
    row, output = scores[number], outputs[task]
    level, weight, position = levels[worker], weights[worker], positions[worker]
    output[:] = _ZERO
    supports[task] = _ZERO
    top, zeta = largest[number], max(zetas[number], _ZERO)
    if top == np.float32(-np.inf):
        return
    if not (top < np.float32(np.inf) and valid_zeta(zetas[number])):
        output[:] = np.float32(np.nan)
        return
    if zeta < SOFTMAX_ZETA:
        weight[: row.shape[0]] = row
        softmax_in_place(weight, row.shape[0], top)
        found = keys
        for j in range(keys):
            position[j] = j
    else:
        window = candidate_window(zeta, _ZERO)
        found = list_candidates(row, row.shape[0], top, window, level, position)
        found, log_max = log_max_prob(level, position, found, zeta)
        write_probs(level, found, zeta, log_max, weight)
    found = keep_support(level, position, weight, found)
    supports[task] = found
    mix_values(weight, position, found, value, start, value_strides[2], output)


@kernel
def mix_values(
    weights: Any, positions: Any, count: int, value: Any, start: int, step: int, output: Any
) -> None:
    """Adds up the values of the `count` listed keys."""
    dim = output.shape[0]
    partial = np.empty(dim, np.float32)
    for first in range(0, count, _BLOCK):
        last = min(count, first + _BLOCK)
        partial[:] = _ZERO
        whole = last - (last - first) % 4
        for c in range(first, whole, 4):
            w0, w1, w2, w3 = weights[c], weights[c + 1], weights[c + 2], weights[c + 3]
            a0, a1 = start + positions[c] * step, start + positions[c + 1] * step
            a2, a3 = start + positions[c + 2] * step, start + positions[c + 3] * step
            v0, v1 = value[a0 : a0 + dim], value[a1 : a1 + dim]
            v2, v3 = value[a2 : a2 + dim], value[a3 : a3 + dim]
            for k in range(dim):
                partial[k] += (w0 * v0[k] + w1 * v1[k]) + (w2 * v2[k] + w3 * v3[k])
        for c in range(whole, last):
            w = weights[c]
            address = start + positions[c] * step
            vector = value[address : address + dim]
            for k in range(dim):
                partial[k] += w * vector[k]
        for k in range(dim):
            output[k] += partial[k]
