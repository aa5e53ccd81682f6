r"""Statistics of one row and their gradient: the equations of `gibbsian.statistics.fused`.

Two passes: the first gives the sum of weights and the mean, the second central moments, which do
not cancel. Rows are float32; sums go on in float64 after `_BLOCK` states.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.simd import maximum
from gibbsian.statistics.gibbs import GibbsStatistics

MOMENTS = (
    "max_score",
    "min_entropy",
    "collision_entropy",
    "entropy",
    "varentropy",
    "third_cumulant",
    "num_states",
)
"""The fields of `GibbsStatistics` that a row's moments are, in their order."""

NUM_MOMENTS = len(MOMENTS)

_ZERO, _LOWEST = np.float32(0), np.float32(-100)
_BLOCK = 1024


def statistics_of(moments: Tensor) -> GibbsStatistics:
    """Moments (..., `NUM_MOMENTS`) as statistics (...) at temperature 1."""
    fields = dict(zip(MOMENTS, moments.unbind(dim=-1), strict=True))
    num_states = fields.pop("num_states").detach()
    return GibbsStatistics(**fields, num_states=num_states, temperature=torch.ones_like(num_states))


@kernel
def row_maximum(row: Any, count: int) -> Any:
    """Largest of the first `count` scores; NaN if one is NaN, -inf if there is none."""
    largest = np.float32(-np.inf)
    for j in range(count):
        largest = maximum(largest, row[j])
    return largest


@kernel
def row_moments(row: Any, count: int, largest: float, moments: Any) -> None:
    """Writes the `NUM_MOMENTS` statistics of the first `count` scores, -inf being absent.

    Args:
        row: scores.
        count: of them.
        largest: their maximum; -inf if there is none.
        moments: receives the statistics.
    """
    moments[:] = _ZERO
    moments[0] = largest
    if largest == np.float32(-np.inf):
        return
    total, mean, squares = 0.0, 0.0, 0.0
    for first in range(0, count, _BLOCK):
        block = row[first : min(first + _BLOCK, count)]
        some, weighted, square = _ZERO, _ZERO, _ZERO
        for j in range(block.shape[0]):
            level = block[j] - largest
            e = exp(level)
            # an absent state has weight 0 and any finite level
            some += e
            weighted += e * (_LOWEST if level < _LOWEST else level)
            square += e * e
        total += some
        mean += weighted
        squares += square
    excess = -mean / total
    log_total = np.log(total)
    variance, skewness = 0.0, 0.0
    shift = np.float32(excess)
    for first in range(0, count, _BLOCK):
        block = row[first : min(first + _BLOCK, count)]
        second, third = _ZERO, _ZERO
        for j in range(block.shape[0]):
            level = block[j] - largest
            deviation = (_LOWEST if level < _LOWEST else level) + shift
            weighted = exp(level) * deviation * deviation
            second += weighted
            third += weighted * deviation
        variance += second
        skewness += third
    moments[1] = log_total
    moments[2] = 2 * log_total - np.log(squares)
    moments[3] = log_total + excess
    moments[4] = variance / total
    moments[5] = skewness / total
    states = np.int32(0)
    for j in range(count):
        states += np.int32(1) if row[j] != np.float32(-np.inf) else np.int32(0)
    moments[6] = states


@kernel
def row_moments_gradient(row: Any, count: int, moments: Any, upstream: Any, gradient: Any) -> None:
    """Writes the gradient in the scores of a row with at least one state.

    Args:
        row: scores.
        count: of them.
        moments: what `row_moments` gave.
        upstream: gradient in each moment but the last.
        gradient: receives the result; not `row`.
    """
    largest, log_total, entropy = moments[0], moments[1], moments[3]
    variance, skewness = moments[4], moments[5]
    of_max, of_min, of_collision = upstream[0], upstream[1], upstream[2]
    of_entropy, of_variance, of_skewness = upstream[3], upstream[4], upstream[5]
    c0 = (
        of_min
        + np.float32(2) * of_collision
        - of_variance * variance
        - of_skewness * (skewness + np.float32(3) * variance)
    )
    c1 = np.float32(2) * of_variance - of_entropy - np.float32(3) * of_skewness * variance
    c2 = of_variance + np.float32(3) * of_skewness
    c3 = of_skewness
    collision = np.float32(2) * of_collision * np.float32(np.exp(moments[2]))
    for j in range(count):
        level = row[j] - largest
        level = (_LOWEST if level < _LOWEST else level) - log_total
        p = exp(level)
        deviation = level + entropy
        polynomial = ((c3 * deviation + c2) * deviation + c1) * deviation + c0
        gradient[j] = p * (polynomial - collision * p)
    ties = of_max - of_min
    if ties != _ZERO:
        tied = 0
        for j in range(count):
            tied += 1 if row[j] == largest else 0
        share = ties / np.float32(tied)
        for j in range(count):
            gradient[j] += share if row[j] == largest else _ZERO
