r"""Entmax of one row: the equations of `gibbsian.normalizers.entmax_kernels`, on candidates only.

With $y_j \le 0$ the scores relative to their maximum, a state can have weight only where
$y_j > -1/\zeta$, whatever the others are. These candidates are listed first; Newton's method and
the weights see nothing else. Rows are float32 arrays padded with -inf to a multiple of
`KEY_BLOCK`.

Derivation: docs/derivations/entmax.md#candidates.
"""

from typing import Any

import numpy as np

from gibbsian.normalizers.entmax_shared import MAX_STEPS, SPARSITY_SLACK
from gibbsian.numerics.cpu.elementary import LOWEST_EXPONENT, exp, log, log1p
from gibbsian.numerics.cpu.jit import exact, kernel
from gibbsian.numerics.cpu.simd import KEY_BLOCK, greater_bits, trailing_zeros

SOFTMAX_ZETA = np.float32(1e-7)
"""Below it a row is softmax: the two differ by zeta y^2 / 2, relative, at weight e^y."""

_ZERO, _ONE = np.float32(0), np.float32(1)
_HALF = np.float32(0.5)
_TINY = np.float32(np.finfo(np.float32).tiny)
_TOLERANCE = np.float32(4 * np.finfo(np.float32).eps)
_LAST_STEP = np.float32(0.1 * np.sqrt(np.finfo(np.float32).eps))
"""Convergence is quadratic: one step from here reaches the tolerance."""
_ROUNDING = np.float32(2.0**-22)
_FAR_BELOW = np.float32(-1e9)
_SLACK = np.float32(SPARSITY_SLACK)
_SERIES_EDGE = np.float32(-0.1)
"""Where the series of `_curvature` takes over from the closed form, which cancels towards 0."""
_C3, _C4, _C5, _C6, _C7 = (np.float32(1 / (k * (k - 1))) for k in (3, 4, 5, 6, 7))
_ALMOST_EMPTY = np.float32(np.finfo(np.float32).eps - 1)
_BLOCK = 1024
"""States summed in float32 before the sum goes on in float64."""


@kernel
def candidate_window(zeta: float, log_max: float) -> Any:
    r"""How far below the maximum a state can have weight: $e^{\zeta\lambda}/\zeta$, or e^y is 0.

    The bound holds for any log-probability `log_max` not below the row's own, 0 for one.
    """
    reach = exp(zeta * log_max)
    return reach / zeta if zeta * -LOWEST_EXPONENT > reach else -LOWEST_EXPONENT


@kernel
def list_candidates(
    row: Any, count: int, largest: float, window: float, levels: Any, positions: Any
) -> int:
    """Writes y and j of every state with y > -window; returns how many.

    Args:
        row: scores, padded with -inf to a multiple of `KEY_BLOCK`.
        count: how many to look at, such a multiple.
        largest: their maximum, finite.
        window: see `candidate_window`.
        levels: receives y = x - largest.
        positions: receives j.
    """
    # rounded outwards: a state that is let in without need gets weight 0
    threshold = largest - window - abs(largest) * _ROUNDING
    address = row.ctypes.data
    found = 0
    for first in range(0, count, KEY_BLOCK):
        bits = greater_bits(address + first * 4, threshold)
        while bits != np.uint64(0):
            j = first + trailing_zeros(bits)
            levels[found] = row[j] - largest
            positions[found] = j
            found += 1
            bits &= bits - np.uint64(1)
    return found


@kernel
def log_max_prob(levels: Any, positions: Any, count: int, zeta: float) -> tuple[int, Any]:
    r"""The largest log-probability of a row, by Newton's method on $\log_\zeta \sum_j p_j$.

    The method comes from the left, where the support is too large: what has left it does not come
    back, and is taken out of the list.

    Returns:
        The length of the list that is left, which holds the support, and the log-probability.
    """
    log_max = _ZERO
    inverse = _ONE / zeta
    for _ in range(MAX_STEPS):
        factor = zeta * exp(-zeta * log_max)
        total, slopes, inside = 0.0, 0.0, 0
        for first in range(0, count, _BLOCK):
            block = levels[first : min(first + _BLOCK, count)]
            some, slope, here = _ZERO, _ZERO, np.int32(0)
            for c in range(block.shape[0]):
                base = max(factor * block[c], -_ONE)
                ratio = exp(inverse * log1p(base))
                some += ratio
                slope += ratio / max(_ONE + base, _TINY)
                here += np.int32(1) if base > -_ONE else np.int32(0)
            total += some
            slopes += slope
            inside += here
        if inside < count - count // 4:
            count = _keep_inside(levels, positions, count, factor)
        log_total = np.float32(np.log(total)) + log_max
        if not log_total > _TOLERANCE:
            break
        rate = exp((_ONE - zeta) * log_total - log_max) / np.float32(slopes)
        step = -np.float32(np.expm1(zeta * log_total)) * rate
        updated = log_max + log1p(max(step, _ALMOST_EMPTY)) * inverse
        if not updated < log_max:
            break
        log_max = updated
        if log_total < _LAST_STEP:
            break
    return count, log_max


@kernel
def _keep_inside(levels: Any, positions: Any, count: int, factor: float) -> int:
    kept = 0
    for c in range(count):
        level = levels[c]
        levels[kept] = level
        positions[kept] = positions[c]
        kept += 1 if factor * level > -_ONE else 0
    return kept


@kernel
def write_probs(levels: Any, count: int, zeta: float, log_max: float, probs: Any) -> None:
    """Probabilities of the candidates.

    What the rounding of `log_max` leaves of sum(p) - 1 is taken off by one Newton step in p.
    """
    factor = zeta * exp(-zeta * log_max)
    inverse = _ONE / zeta
    largest = exp(log_max)
    total, responses = 0.0, 0.0
    for first in range(0, count, _BLOCK):
        block = levels[first : min(first + _BLOCK, count)]
        written = probs[first : min(first + _BLOCK, count)]
        some, weight = _ZERO, _ZERO
        for c in range(block.shape[0]):
            base = max(factor * block[c], -_ONE)
            p = largest * exp(inverse * log1p(base))
            written[c] = p
            some += p
            # in proportion to p^(1 - zeta), well enough for a last step
            weight += p / max(_ONE + base, _TINY)
        total += some
        responses += weight
    correction = np.float32((total - 1.0) / responses)
    for c in range(count):
        base = max(factor * levels[c], -_ONE)
        p = probs[c]
        probs[c] = max(p - correction * (p / max(_ONE + base, _TINY)), _ZERO)


@kernel
def keep_support(levels: Any, positions: Any, probs: Any, count: int) -> int:
    """Takes the states without weight out of the list; returns how many are left."""
    kept = 0
    for c in range(count):
        p = probs[c]
        levels[kept] = levels[c]
        positions[kept] = positions[c]
        probs[kept] = p
        kept += 1 if p > _ZERO else 0
    return kept


@kernel
def softmax_in_place(row: Any, count: int, largest: float) -> tuple[int, Any]:
    """Turns scores into the probabilities of a row of zeta = 0.

    Returns:
        How many of them are not 0, and the largest log-probability.
    """
    total = 0.0
    for first in range(0, count, _BLOCK):
        block = row[first : min(first + _BLOCK, count)]
        some = _ZERO
        for j in range(block.shape[0]):
            e = exp(block[j] - largest)
            block[j] = e
            some += e
        total += some
    share = np.float32(1 / total)
    support = np.int32(0)
    for j in range(count):
        p = row[j] * share
        row[j] = p
        support += np.int32(1) if p > _ZERO else np.int32(0)
    return support, np.float32(-np.log(total))


@exact
def response(p: float, zeta: float) -> Any:
    """Response of a weight to its score, p^(1 - zeta); 0 off the support.

    Taken from p: near the edge of the support the score has lost the digits that p keeps.
    """
    power = exp((_ONE - zeta) * log(max(p, _TINY)))
    return power if p > _ZERO else _ZERO


@kernel
def row_gradient(
    levels: Any,
    probs: Any,
    gradient: Any,
    count: int,
    zeta: float,
    log_max: float,
    needs_zeta: bool,
) -> Any:
    r"""Turns the gradient in the weights into that in the scores; returns that in zeta.

    $$\bar x = s \odot (\bar p - \langle \bar p \rangle_q), \qquad
    \bar\zeta = -e^{\zeta\lambda} \sum_j s_j u_j (u_j F(\zeta u_j) + \lambda)
    (\bar p_j - \langle \bar p \rangle_q)$$

    Args:
        levels: y of each state.
        probs: p of each state; one with p = 0 has no influence.
        gradient: in each p; receives that in each score.
        count: of states.
        zeta: of the row.
        log_max: of the row.
        needs_zeta: whether the gradient in zeta is wanted; else 0 is returned.
    """
    is_softmax = zeta < SOFTMAX_ZETA
    total, mean = _ZERO, _ZERO
    # a state off the support has no influence, even where the gradient given is infinite
    if is_softmax:
        for c in range(count):
            given, p = gradient[c], probs[c]
            total += p
            mean += p * (given if p > _ZERO else _ZERO)
    else:
        for c in range(count):
            given, p = gradient[c], probs[c]
            weight = response(p, zeta)
            total += weight
            mean += weight * (given if p > _ZERO else _ZERO)
    if total > _ZERO:
        mean /= total
    if is_softmax:
        for c in range(count):
            given, p = gradient[c], probs[c]
            gradient[c] = p * ((given if p > _ZERO else _ZERO) - mean)
    else:
        for c in range(count):
            given, p = gradient[c], probs[c]
            gradient[c] = response(p, zeta) * ((given if p > _ZERO else _ZERO) - mean)
    if not needs_zeta:
        return _ZERO
    growth = exp(-zeta * log_max)
    factor = zeta * growth
    # where p = 0, anything finite
    bottom = max(_ALMOST_EMPTY / max(factor, _TINY), _FAR_BELOW)
    of_zeta = _ZERO
    for c in range(count):
        level = levels[c]
        level = bottom if level < bottom else level
        u = growth * level
        of_zeta += gradient[c] * u * (u * _curvature(factor * level) + log_max)
    return -of_zeta / growth


@exact
def _curvature(t: float) -> Any:
    """((1 + t) log(1 + t) - t) / t^2 for t in (-1, 0]; 1/2 at 0."""
    near = t > _SERIES_EDGE
    h = -t if near else _ZERO
    series = _C7 * h + _C6
    series = series * h + _C5
    series = series * h + _C4
    series = series * h + _C3
    series = series * h + _HALF
    far = _SERIES_EDGE if near else t
    closed = ((_ONE + far) * log1p(far) - far) / (far * far)
    return series if near else closed


@kernel
def valid_zeta(zeta: float) -> bool:
    """Whether a sparsity lies in [0, 1] up to rounding; NaN does not."""
    return bool(-_SLACK < zeta < _ONE + _SLACK)
