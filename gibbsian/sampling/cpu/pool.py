r"""The pool of one row: the rules of the filters, in few passes.

Which tokens stay are comparisons of numbers that torch has rounded in its way. Here they are
rounded in another, so a comparison counts only where it clears a margin that covers both; else the
pool is not *sure*, and the reference takes the row.

Margins: docs/derivations/sampling.md#margins.
"""

from typing import Any

import numpy as np

from gibbsian.normalizers.cpu.entmax import row_entmax
from gibbsian.normalizers.cpu.row import list_candidates
from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import exact, kernel
from gibbsian.numerics.cpu.simd import KEY_BLOCK, greater_bits, trailing_zeros
from gibbsian.sampling.cpu.layout import (
    EPSILON,
    HIGHEST,
    LARGEST,
    MIN_P,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    ZETA,
)

WEIGHT_MARGIN = 1e-5
"""Relative: what two ways to compute a probability relative to another differ by at most."""

_MOST_K = 256
"""A larger k is the reference's: the list of the k largest is kept in order by insertion."""
_ROUNDING = 2.0**-24
_LANES, _DEPTH = 4, 32
"""Fewest numbers that torch adds at once, and roundings of a sum besides those of its terms."""
_SLACK = 1e-12
"""For the float64 sums themselves."""
_LONGEST = 4096
"""Tokens of which a list is worth sorting."""
_WINDOWS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
_COLDEST = 2e-6
"""Twice the temperature that counts as 0."""
_FLAT = -60.0
"""A logarithm of a ratio of probabilities below it is near the end of float32's range."""
_LOWEST = np.float32(np.finfo(np.float32).min)
_ABSENT = np.float32(-np.inf)
_ZERO = np.float32(0)


@kernel
def row_pool(
    scores: Any, states: int, given: Any, space: Any, positions: Any, filtered: Any
) -> tuple[int, bool]:
    """Writes the weights of the pool to `space[3]`; returns its size, and whether that is sure."""
    row, levels, written, weights = space[0], space[1], space[2], space[3]
    padded = row.shape[0]
    temperature = np.float32(given[TEMPERATURE])
    frozen = temperature <= _ZERO
    if frozen:
        temperature = np.float32(1)
    largest = np.float32(given[LARGEST])
    top = _divided(largest, temperature)
    if not (_COLDEST <= temperature < np.inf and abs(top) < np.inf):
        return 0, False
    for j in range(states):
        row[j] = _divided(scores[j], temperature)
    for j in range(states, padded):
        row[j] = _ABSENT
    level, last, sure = _LOWEST, states, True
    if frozen:
        level, last = top, _first(row, top)
    limited = not given[TOP_K] >= states
    if limited:
        k = np.rint(np.float32(given[TOP_K]))
        if not k <= _MOST_K:
            return 0, False
        level = max(level, _kth_largest(row, int(min(max(k, 1), states)), levels))
    if not (frozen or given[TOP_P] > 1.0):
        level, last, sure = _mass_edge(
            row, states, top, level, given[TOP_P], limited, levels, weights, positions
        )
    low, high = _energy_edge(given[MIN_P], 1.0)
    if not given[EPSILON] <= 0.0:
        low, high = _energy_edge(given[EPSILON], given[HIGHEST])
    sure = sure and not (np.isnan(given[MIN_P]) or np.isnan(given[EPSILON]))
    if given[ZETA] < 0.0:
        kept, possible = _weigh(row, states, top, level, last, low, high, weights)
        if filtered.shape[0] > 0:
            _cut(row, states, top, level, last, high, filtered)
        return kept, sure and kept == possible
    row_entmax(row, np.float32(given[ZETA]), levels, written, positions, weights[:states])
    if frozen:
        for j in range(states):
            weights[j] = np.float32(1) if j == last else _ZERO
    support = 0
    for j in range(states):
        support += np.int32(weights[j] > _ZERO)
    return support, sure and given[ZETA] <= 1.0


@exact
def _divided(score: Any, temperature: Any) -> Any:
    return score / temperature


@kernel
def _first(row: Any, score: float) -> int:
    for j in range(row.shape[0]):
        if row[j] == score:
            return j
    return 0


@kernel
def _kth_largest(row: Any, k: int, best: Any) -> Any:
    """The k-th largest score; `best` receives the k largest in descending order."""
    best[:k] = _ABSENT
    address = row.ctypes.data
    for first in range(0, row.shape[0], KEY_BLOCK):
        bits = greater_bits(address + first * 4, best[k - 1])
        while bits != np.uint64(0):
            x = row[first + trailing_zeros(bits)]
            bits &= bits - np.uint64(1)
            if x > best[k - 1]:
                c = k - 1
                while c > 0 and best[c - 1] < x:
                    best[c] = best[c - 1]
                    c -= 1
                best[c] = x
    return best[k - 1]


@kernel
def _mass_edge(
    row: Any,
    states: int,
    top: float,
    level: float,
    p: float,
    limited: bool,
    levels: Any,
    weights: Any,
    positions: Any,
) -> tuple[Any, int, bool]:
    """The smallest score that top-p keeps, the last token of that score, and whether it is sure.

    Args:
        row: tempered scores.
        states: how many.
        top: the largest.
        level: smallest score of the pool so far.
        p: probability of the pool.
        limited: whether that pool is of a few tokens; else it is all of them.
        levels: scratch, as are the next two.
        weights: see there.
        positions: see there.
    """
    if not p > 0.0:
        return top, _first(row, top), not np.isnan(p)
    # what may be lost, in the rounding of the reference
    limit = float(np.float32(1.0 - p))
    padded = row.shape[0]
    if limit <= 0.0:
        # lost are those whose probability is 0 in float32
        lowest = top
        for j in range(states):
            lowest = row[j] if max(level, _LOWEST) <= row[j] < lowest else lowest
        return level, states, lowest - top > _FLAT
    found, total = 0, 0.0
    if limited:
        if level > _LOWEST:
            # rounded outwards
            window = (top - level) * np.float32(1 + 1e-6) + np.float32(1e-30)
            found = list_candidates(row, padded, top, window, levels, positions)
        some = 0
        for c in range(min(found, _LONGEST)):
            if row[positions[c]] >= level:
                positions[some], levels[some] = positions[c], levels[c]
                total += exp(levels[c])
                some += 1
        depth = float(some)
    else:
        total, window, depth = _profile(row, states, top, limit, weights)
        if window > _ZERO:
            found = list_candidates(row, padded, top, window, levels, positions)
        some = found
    if not 0 < found <= _LONGEST:
        return level, states, False
    found = some
    margin = limit * (WEIGHT_MARGIN + (depth / _LANES + _DEPTH) * _ROUNDING) + _SLACK
    values = np.empty(found, np.float32)
    for c in range(found):
        values[c] = -row[positions[c]]
    # of equal scores the first come first
    order = np.argsort(values, kind="mergesort")
    below, sure = total, True
    for rank in range(found):
        below -= exp(levels[order[rank]])
        share = below / total
        sure = sure and abs(share - limit) > margin
        if share <= limit:
            edge = positions[order[rank]]
            return row[edge], edge, sure
    return level, states, False


@kernel
def _profile(
    row: Any, states: int, top: float, limit: float, weights: Any
) -> tuple[float, Any, float]:
    """What top-p has to know of a row of any length.

    Returns:
        The sum of the weights; how far from the largest score less than a share of it is left; and
        how many roundings of the whole sum an addition of all, the smallest first, amounts to.
    """
    total = 0.0
    for j in range(states):
        e = exp(row[j] - top)
        weights[j] = e
        total += np.float64(e)
    enough, depth, before, rest = _ZERO, 0.0, 0.0, 1.0
    for window in _WINDOWS:
        edge = exp(-np.float32(window))
        mass, number = 0.0, 0.0
        for j in range(states):
            inside = np.float64(weights[j] >= edge)
            mass += np.float64(weights[j]) * inside
            number += inside
        depth += (number - before) * rest
        before, rest = number, max(1.0 - mass / total, 0.0)
        if enough == _ZERO and rest < 0.999 * limit:
            enough = np.float32(window)
    return total, enough, depth + (states - before) * rest


@kernel
def _energy_edge(share: float, of: float) -> tuple[Any, Any]:
    """Energies below the largest score: certainly cut below the first, kept from the second on."""
    if not share > 0.0:
        return _ABSENT, _ABSENT
    edge = np.log(min(np.float64(np.float32(share)) / of, 1.0))
    low, high = edge - WEIGHT_MARGIN, edge + WEIGHT_MARGIN
    if edge < _FLAT:
        low, high = 2 * edge, edge + 1.0
    # the largest score stays
    return np.float32(low), np.float32(min(high, 0.0))


@kernel
def _weigh(
    row: Any,
    states: int,
    top: float,
    level: float,
    last: int,
    low: float,
    high: float,
    weights: Any,
) -> tuple[int, int]:
    """Writes the weights of the pool, 0 elsewhere; returns its least and its greatest size."""
    kept, possible = 0, 0
    for j in range(states):
        x = row[j]
        below = x - top
        ranked = (x > level) | ((x == level) & (j <= last))
        sure = ranked & (below >= high)
        # products, not branches: they are what LLVM makes vectors of
        weights[j] = exp(below) * np.float32(sure)
        kept += np.int32(sure)
        possible += np.int32(ranked & (below >= low))
    return kept, possible


@kernel
def _cut(
    row: Any, states: int, top: float, level: float, last: int, high: float, filtered: Any
) -> None:
    for j in range(states):
        x = row[j]
        ranked = (x > level) | ((x == level) & (j <= last))
        filtered[j] = x if ranked & (x - top >= high) else _ABSENT
