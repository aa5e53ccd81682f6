r"""Exponential and logarithm in float32, in a form that LLVM vectorises.

Each is reduced to one octave by an integer operation on the exponent bits and then a polynomial
(coefficients: the Cephes library). Errors stay within 2 units in the last place, of `log1p` within
3: it rounds 1 + x.
"""

import numpy as np

from gibbsian.numerics.cpu.jit import exact
from gibbsian.numerics.cpu.simd import bits_float, float_bits

LOWEST_EXPONENT = np.float32(-87.0)
"""Below it `exp` returns 0 (e^-87 = 1.6e-38): every result is a normal number."""

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LOG2_E = np.float32(1.44269504088896341)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_ROUND = np.float32(1.5 * 2**23)
"""Adding it leaves an integer in the low bits of the mantissa."""
_E0, _E1, _E2, _E3, _E4, _E5 = (
    np.float32(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    np.float32(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
_MANTISSA = np.int32(23)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)


@exact
def exp(x: np.float32) -> np.float32:
    """Exponential of x <= 88; 0 below `LOWEST_EXPONENT`, NaN for NaN."""
    low = x < LOWEST_EXPONENT
    y = LOWEST_EXPONENT if low else x
    rounded = y * _LOG2_E + _ROUND
    octaves = rounded - _ROUND
    r = (y - octaves * _LN2_HIGH) - octaves * _LN2_LOW
    p = _E0 * r + _E1
    p = p * r + _E2
    p = p * r + _E3
    p = p * r + _E4
    p = p * r + _E5
    p = p * (r * r) + r + _ONE
    scaled = bits_float(float_bits(p) + (float_bits(rounded) << _MANTISSA))
    return _ZERO if low else scaled


@exact
def log1p(x: np.float32) -> np.float32:
    """Logarithm of 1 + x, a normal number: for x > -1, and near 0 with all its digits."""
    y = _ONE + x
    bits = float_bits(y)
    octaves = (bits - _SQRT_HALF_BITS) >> _MANTISSA
    # the argument itself where it was not scaled: 1 + x has lost its last digits
    r = x if octaves == 0 else bits_float(bits - (octaves << _MANTISSA)) - _ONE
    return _log_of_mantissa(r, np.float32(octaves))


@exact
def log(x: np.float32) -> np.float32:
    """Logarithm of x, a normal number > 0."""
    bits = float_bits(x)
    octaves = (bits - _SQRT_HALF_BITS) >> _MANTISSA
    r = bits_float(bits - (octaves << _MANTISSA)) - _ONE
    return _log_of_mantissa(r, np.float32(octaves))


@exact
def _log_of_mantissa(r: np.float32, octaves: np.float32) -> np.float32:
    """log((1 + r) 2^octaves), r in [sqrt(1/2) - 1, sqrt(2) - 1]."""
    square = r * r
    p = _L0 * r + _L1
    p = p * r + _L2
    p = p * r + _L3
    p = p * r + _L4
    p = p * r + _L5
    p = p * r + _L6
    p = p * r + _L7
    p = p * r + _L8
    y = r * square * p + octaves * _LN2_LOW - _HALF * square
    return r + y + octaves * _LN2_HIGH
