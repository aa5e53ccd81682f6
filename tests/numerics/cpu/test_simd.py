"""The instructions that Python has no name for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from gibbsian.numerics.cpu import simd
from gibbsian.numerics.cpu.jit import kernel


@kernel
def larger(x, y):
    return simd.maximum(x, y)


@kernel
def round_trip(x):
    return simd.bits_float(simd.float_bits(x))


@kernel
def lowest_bit(word):
    return simd.trailing_zeros(word)


@kernel
def bits_above(numbers, threshold):
    return simd.greater_bits(numbers.ctypes.data, threshold)


def test_shapes_fit_each_other():
    assert simd.KEY_BLOCK % simd.PANEL == 0
    assert simd.PANEL == simd.LANES * simd.TILE_VECTORS


@given(st.floats(width=32), st.floats(width=32))
def test_maximum_keeps_a_nan(x, y):
    expected = np.maximum(np.float32(x), np.float32(y))
    np.testing.assert_equal(np.float32(larger(np.float32(x), np.float32(y))), expected)


@given(st.floats(width=32, allow_nan=False))
def test_bits_of_a_number(x):
    assert round_trip(np.float32(x)) == np.float32(x)


@pytest.mark.parametrize("bit", [0, 1, 31, 32, 62, 63])
def test_lowest_bit(bit):
    assert lowest_bit(np.uint64(1 << bit)) == bit
    assert lowest_bit(np.uint64((1 << bit) | (1 << 63))) == bit


@given(
    st.lists(
        st.floats(-2, 2, width=32) | st.sampled_from([np.nan, np.inf, -np.inf]),
        min_size=simd.KEY_BLOCK,
        max_size=simd.KEY_BLOCK,
    ),
    st.sampled_from([0.0, 1.0, -np.inf, np.inf]),
    st.integers(0, 3),
)
def test_bits_of_what_is_greater(numbers, threshold, offset):
    """Strictly, a NaN never, at any alignment."""
    room = np.full(simd.KEY_BLOCK + 8, np.float32(1e9))
    block = room[offset : offset + simd.KEY_BLOCK]
    block[:] = numbers
    found = int(bits_above(block, np.float32(threshold)))
    expected = [j for j, x in enumerate(block) if x > threshold]
    assert [j for j in range(simd.KEY_BLOCK) if found >> j & 1] == expected
