"""Exponential and logarithms of the kernels against float64, over their whole ranges."""

import numpy as np
import pytest

pytest.importorskip("numba")

from gibbsian.numerics.cpu import elementary
from gibbsian.numerics.cpu.jit import kernel
from tests.tolerances import ELEMENTARY_ROUNDINGS, LOG1P_ROUNDINGS

TINY, LARGEST = np.finfo(np.float32).tiny, np.finfo(np.float32).max
exp, log, log1p = elementary.exp, elementary.log, elementary.log1p


# loops, as kernels have them: vectors of the machine at hand
@kernel
def exp_of(numbers, results):
    for i in range(numbers.shape[0]):
        results[i] = exp(numbers[i])


@kernel
def log_of(numbers, results):
    for i in range(numbers.shape[0]):
        results[i] = log(numbers[i])


@kernel
def log1p_of(numbers, results):
    for i in range(numbers.shape[0]):
        results[i] = log1p(numbers[i])


def call(function, numbers):
    numbers = np.asarray(numbers, np.float32)
    results = np.full_like(numbers, 7)
    function(numbers, results)
    return results


def roundings(function, truth, numbers):
    """Largest error in units in the last place of the truth."""
    numbers = np.asarray(numbers, np.float32)
    expected = truth(numbers.astype(np.float64))
    unit = np.spacing(np.maximum(np.abs(expected), TINY).astype(np.float32))
    # a NaN stays one, and fails every comparison
    return (np.abs(call(function, numbers).astype(np.float64) - expected) / unit).max()


def around(numbers, steps=8):
    """Each number with its neighbours in float32."""
    bits = np.asarray(numbers, np.float32).view(np.int32)
    return (bits[:, None] + np.arange(-steps, steps + 1, dtype=np.int32)).ravel().view(np.float32)


def bit_patterns(first, last):
    """Numbers evenly in the logarithm, down to a few bits apart."""
    first, last = (np.float32(x).view(np.int32) for x in (first, last))
    return np.linspace(first, last, 500_001).astype(np.int32).view(np.float32)


HALF_OCTAVES = np.log(2) * np.arange(-250, 254) / 2
POWERS = 2.0 ** (np.arange(-250, 256) / 2)
SMALL = bit_patterns(1e-38, 0.5)
EXP_RANGES = {
    "whole": np.linspace(-87, 88, 1_000_001),
    "edges": around(HALF_OCTAVES[HALF_OCTAVES != 0]),
    "near 0": np.concatenate([SMALL, -SMALL]),
}
LOG_RANGES = {
    "whole": bit_patterns(TINY, LARGEST),
    "edges": around(POWERS[POWERS > 2 * TINY]),
    "near 1": around([1.0], 5000),
}
LOG1P_RANGES = {
    "above": bit_patterns(1e-38, LARGEST / 2),
    "below": -bit_patterns(1e-38, 1 - 1e-7),
    "edges": around(POWERS[(POWERS != 1) & (POWERS > 2.0**-20)] - 1),
    "just above -1": around([-1 + 2.0**-20]),
    "1 + tiny": around([2.0**-24, 2.0**-23, -(2.0**-24), 1e-30, -1e-30], 100),
}


@pytest.mark.parametrize("name", EXP_RANGES)
def test_exp(name):
    assert roundings(exp_of, np.exp, EXP_RANGES[name]) <= ELEMENTARY_ROUNDINGS


@pytest.mark.parametrize("name", LOG_RANGES)
def test_log(name):
    assert roundings(log_of, np.log, LOG_RANGES[name]) <= ELEMENTARY_ROUNDINGS


@pytest.mark.parametrize("name", LOG1P_RANGES)
def test_log1p(name):
    assert roundings(log1p_of, np.log1p, LOG1P_RANGES[name]) <= LOG1P_ROUNDINGS


def test_exp_at_the_ends():
    lowest = elementary.LOWEST_EXPONENT
    below = np.nextafter(lowest, np.float32(-np.inf))
    assert call(exp_of, [0.0, -0.0]).tolist() == [1.0, 1.0]
    assert call(exp_of, [below, -1e9, -LARGEST, -np.inf]).tolist() == [0.0] * 4
    assert call(exp_of, [lowest])[0] >= TINY
    assert np.isnan(call(exp_of, [np.nan])[0])


def test_logarithms_of_one_are_exactly_zero():
    assert call(log_of, [1.0])[0] == 0
    assert call(log1p_of, [0.0])[0] == 0


def test_a_state_at_the_edge_of_the_support_gets_no_weight():
    """exp(log1p(-1)) is 0: Newton's method puts every state beyond the edge there."""
    assert call(exp_of, call(log1p_of, [-1.0]))[0] == 0
