"""Accuracy in float32 against the float64 oracle: every sparsity, size, offset and kind of row."""

import itertools

import numpy as np
import pytest
import torch

from gibbsian import entmax
from tests.oracles import entmax as oracle
from tests.tolerances import (
    ENTMAX_ALPHA_GRADIENT_ERROR,
    ENTMAX_PROBABILITY_ERROR,
    NEGLIGIBLE_ALPHA_GRADIENT,
    NORMALISATION_ERROR,
    assert_identity,
)

ZETAS = [0.0, 1e-8, 1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0]
STDS = [1e-6, 1e-3, 0.1, 1.0, 10.0]
OFFSETS = [0.0, 1e5]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
CASES = [
    (std, offset, dtype)
    for std, offset, dtype in itertools.product(STDS, OFFSETS, DTYPES)
    if offset == 0 or dtype != torch.float16  # which ends at 65504
]


def assert_accurate(scores, zetas):
    """Check p and dp/dzeta of one row at several sparsities, all in one call."""
    rows = scores.expand(len(zetas), -1)
    sparsity = torch.tensor(zetas).unsqueeze(-1)
    probs, response = torch.func.jvp(
        lambda zeta: entmax(rows.float(), zeta), (sparsity,), (torch.ones_like(sparsity),)
    )
    for zeta, p, dp in zip(sparsity[:, 0].tolist(), probs, response, strict=True):
        expected = oracle.probabilities(scores.double().numpy(), zeta)
        assert np.abs(p.double().numpy() - expected).max() <= ENTMAX_PROBABILITY_ERROR, zeta
        assert abs(float(p.double().sum()) - 1) <= NORMALISATION_ERROR, zeta
        expected = oracle.zeta_derivative(scores.double().numpy(), zeta)
        size = np.abs(expected).max()
        if size > NEGLIGIBLE_ALPHA_GRADIENT:
            error = np.abs(dp.double().numpy() - expected).max() / size
            assert error <= ENTMAX_ALPHA_GRADIENT_ERROR, zeta


@pytest.mark.parametrize("zeta", ZETAS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0])
def test_the_float64_oracle_matches_the_closed_forms_in_mpmath(zeta, scale):
    """Bisection and implicit differentiation against sixty digits: the level, p and dp/dzeta."""
    scores = np.random.default_rng(0).normal(size=9) * scale
    probs, response, level = oracle.exact(scores, zeta)
    assert_identity(torch.from_numpy(oracle.probabilities(scores, zeta)), torch.from_numpy(probs))
    assert_identity(
        torch.from_numpy(oracle.zeta_derivative(scores, zeta)), torch.from_numpy(response)
    )
    above = torch.tensor(oracle.level(scores, zeta), dtype=torch.float64)
    assert_identity(above, level - scores.max())


@pytest.mark.parametrize(("std", "offset", "dtype"), CASES)
def test_gaussian_rows(std, offset, dtype):
    for n in (1, 2, 10, 1000):
        assert_accurate((torch.randn(n) * std + offset).to(dtype), ZETAS)


@pytest.mark.parametrize("std", [1e-3, 1.0])
def test_rows_of_1e5_states(std):
    assert_accurate(torch.randn(100_000) * std, [0.0, 1e-6, 0.01, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize(("std", "offset", "dtype"), CASES)
def test_the_whole_grid_at_1e5_states(std, offset, dtype):
    assert_accurate((torch.randn(100_000) * std + offset).to(dtype), ZETAS)


@pytest.mark.parametrize("gap", [5e-3, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("heavy", [1, 3, 30])
def test_a_few_heavy_states_over_a_long_flat_tail(heavy, gap):
    """All tail states round the same way, and 1e5 equal roundings add up."""
    scores = torch.full((100_000,), -gap)
    scores[:heavy] = 0.0
    assert_accurate(scores, [0.5, 0.9, 0.99, 1.0])


@pytest.mark.parametrize("kind", ["ladder", "exponential", "cauchy", "geometric", "tied"])
def test_rows_of_other_shapes(kind):
    n = 3000
    rng = np.random.default_rng(3)
    row = {
        "ladder": np.linspace(0, 1, n),
        "exponential": rng.exponential(size=n),
        "cauchy": rng.standard_cauchy(size=n),
        "geometric": -np.geomspace(1e-8, 1e4, n),
        "tied": rng.integers(0, 4, size=n) / 2,
    }[kind]
    assert_accurate(torch.tensor(row, dtype=torch.float32), [*ZETAS, 0.9, 0.99])


@pytest.mark.parametrize("zeta", ZETAS)
def test_gradients_by_backward_have_the_accuracy_of_forward_mode(zeta):
    scores = torch.randn(200) * 0.3
    sparsity = torch.tensor([zeta], requires_grad=True)
    weights = torch.randn(200)
    (grad,) = torch.autograd.grad((entmax(scores, sparsity) * weights).sum(), sparsity)
    zeta = float(sparsity.detach())  # as float32 holds it
    expected = oracle.zeta_derivative(scores.numpy(), zeta) @ weights.double().numpy()
    assert abs(float(grad) / expected - 1) < ENTMAX_ALPHA_GRADIENT_ERROR


def test_mixed_rows_are_as_accurate_as_rows_of_one_kind():
    zeta = torch.rand(64, 1)
    zeta[::8], zeta[1::8] = 0.0, 1.0
    scores = torch.randn(64, 300) * torch.logspace(-2, 1.5, 64).unsqueeze(-1)
    probs = entmax(scores, zeta)
    for row, z, p in zip(scores, zeta, probs, strict=True):
        expected = oracle.probabilities(row.numpy(), float(z))
        assert np.abs(p.double().numpy() - expected).max() <= ENTMAX_PROBABILITY_ERROR
