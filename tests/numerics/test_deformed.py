"""The deformed exponential and logarithm against mpmath, zeta -> 0 included."""

import mpmath
import pytest
import torch

from gibbsian.numerics.deformed import (
    deformed_log_of_exp,
    log1p_ratio,
    log_of_deformed_exp,
    phi_1,
    phi_2,
)
from tests.tolerances import assert_gradients, assert_identity

ZETAS = [0.0, 1e-300, 1e-12, 1e-8, 1e-3, 0.3, 0.5, 1.0]


@pytest.mark.parametrize("zeta", ZETAS)
def test_log_of_deformed_exp_matches_mpmath(zeta):
    u = torch.tensor([-30.0, -1.5, -0.9, -1e-9, 0.0, 2.0], dtype=torch.float64)
    with mpmath.workdps(400):
        z = mpmath.mpf(zeta)
        bases = [1 + z * mpmath.mpf(float(v)) for v in u]
        expected = [
            float(v) if zeta == 0 else float(mpmath.log(b) / z) if b > 0 else -torch.inf
            for v, b in zip(u, bases, strict=True)
        ]
    actual = log_of_deformed_exp(u, torch.tensor(zeta, dtype=torch.float64))
    assert_identity(actual, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("zeta", ZETAS)
def test_deformed_log_inverts_the_deformed_exponential(zeta):
    zeta = torch.tensor(zeta, dtype=torch.float64)
    u = torch.tensor([-0.99, -0.5, -1e-6, 0.0, 3.0], dtype=torch.float64)
    assert_identity(deformed_log_of_exp(log_of_deformed_exp(u, zeta), zeta), u)


def test_phi_functions_match_mpmath_on_both_sides_of_the_series_edge():
    z = torch.tensor(
        [-50.0, -3.0, -0.2501, -0.2499, -1e-9, 0.0, 1e-300, 0.1, 0.2499, 0.2501, 7.0],
        dtype=torch.float64,
    )
    with mpmath.workdps(700):
        points = [mpmath.mpf(float(v)) for v in z]
        one = [float((mpmath.exp(v) - 1) / v) if v else 1.0 for v in points]
        two = [float((mpmath.exp(v) - 1 - v) / v**2) if v else 0.5 for v in points]
    assert_identity(phi_1(z), torch.tensor(one, dtype=torch.float64))
    assert_identity(phi_2(z), torch.tensor(two, dtype=torch.float64))


def test_phi_2_keeps_float32_digits_near_zero():
    z = torch.tensor([1e-7, -1e-4, 3e-3, 0.24, 0.26])
    torch.testing.assert_close(phi_2(z).double(), phi_2(z.double()), rtol=1e-6, atol=0)


def test_log1p_ratio_matches_mpmath_and_is_differentiable_across_the_series_edge():
    t = torch.tensor(
        [-0.999, -0.1001, -0.0999, -1e-9, 0.0, 1e-300, 0.0999, 0.1001, 5.0], dtype=torch.float64
    )
    with mpmath.workdps(400):
        points = [mpmath.mpf(float(v)) for v in t]
        expected = [float(mpmath.log(1 + v) / v) if v else 1.0 for v in points]
    assert_identity(log1p_ratio(t), torch.tensor(expected, dtype=torch.float64))
    assert_gradients(log1p_ratio, (torch.tensor([-0.5, -0.1, 0.0, 0.1, 1.0]),), second_order=True)


def test_phi_2_is_differentiable_at_zero_and_across_the_series_edge():
    assert_gradients(phi_2, (torch.tensor([-0.25, -1e-3, 0.0, 0.1, 0.25, 2.0]),), second_order=True)
