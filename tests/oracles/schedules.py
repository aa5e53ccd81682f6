"""Sparsity of one row from its statistics, case by case as the definitions are written."""

import math


def shape(name, t):
    """Height of a ramp at position t in [0, 1]."""
    if name == "linear":
        return t
    if name == "smooth_step":
        return 3 * t**2 - 2 * t**3
    return (1 - math.cos(math.pi * t)) / 2


def ramp(
    name,
    entropy,
    varentropy,
    num_states,
    *,
    low,
    high,
    zeta_max,
    direction="concentrate_low",
    bounds=None,
):
    """Fixed ramps; `bounds` is (V_0, lambda_low, lambda_high)."""
    if num_states <= 1:
        return zeta_max
    scale, lambda_low, lambda_high = bounds or (1.0, 0.0, 0.0)
    g = varentropy / (varentropy + scale)
    lower, upper = zeta_max * lambda_low * g, zeta_max * (1 - lambda_high * g)
    s = entropy / math.log(num_states)
    if s <= low:
        height = 1.0
    elif s >= high:
        height = 0.0
    else:
        height = shape(name, (high - s) / (high - low))
    if direction == "concentrate_high":
        height = 1 - height
    return lower + (upper - lower) * height


def learnable_ramp(entropy, num_states, *, low, high, zeta_max):
    """The sigmoid ramp at given edges."""
    s = entropy / math.log(num_states)
    return zeta_max / (1 + math.exp(-6 * ((low + high) / 2 - s) / (high - low)))


def response(entropy, susceptibility, *, budget, zeta_max):
    """The root of susceptibility * (exp(2 S zeta) - 1) / (2 S) = budget, by bisection."""

    def removed(zeta):
        return susceptibility * (math.exp(2 * entropy * zeta) - 1) / (2 * entropy)

    if removed(zeta_max) <= budget:
        return zeta_max
    left, right = 0.0, zeta_max
    for _ in range(200):
        middle = (left + right) / 2
        left, right = (middle, right) if removed(middle) < budget else (left, middle)
    return left
