"""Moments, distance and quantiles of plain samples against SciPy's and NumPy's on sorted ones."""

import numpy as np
import pytest
import torch

from gibbsian.observables.normality import normal_fit
from tests.oracles import lognormal as oracle
from tests.tolerances import LOGNORMAL_DISTANCE_ERROR, QUANTILE_ERROR, assert_identity


def samples():
    generator = np.random.default_rng(0)
    return np.stack([generator.normal(0.2, 1.3, 500), generator.exponential(size=500)])


def test_moments_and_distances_against_the_sorted_samples():
    numbers = samples()
    fit = normal_fit(torch.tensor(numbers))
    other = fit.distance_to(0.1, torch.tensor([2.0, 1.0]))
    for i, (row, deviation) in enumerate(zip(numbers, (2.0, 1.0), strict=True)):
        assert fit.num_entries[i] == 500 == fit.counts[i].sum()
        assert_identity(fit.mu[i], row.mean())
        assert_identity(fit.sigma[i], row.std())
        exact = oracle.distance(row, row.mean(), row.std())
        assert abs(fit.distance[i].item() - exact) <= LOGNORMAL_DISTANCE_ERROR
        exact = oracle.distance(row, 0.1, deviation)
        allowed = LOGNORMAL_DISTANCE_ERROR * max(1.0, row.std() / deviation)
        assert abs(other[i].item() - exact) <= allowed
    assert fit.distance[1] > 2 * fit.distance[0]


def test_quantiles_are_standardised():
    numbers = samples()
    probabilities = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    measured, normal = normal_fit(torch.tensor(numbers)).quantiles(probabilities)
    assert_identity(torch.special.ndtr(normal), probabilities)
    standard = (numbers - numbers.mean(axis=1, keepdims=True)) / numbers.std(axis=1, keepdims=True)
    expected = np.quantile(standard, probabilities.numpy(), axis=1, method="inverted_cdf").T
    assert np.abs(measured.numpy() - expected).max() <= QUANTILE_ERROR


def test_many_normal_numbers_are_normal():
    numbers = torch.randn(1_000_000, dtype=torch.float64) * 3 - 1
    fit = normal_fit(numbers)
    assert fit.distance < 0.003
    assert fit.distance_to(-1.0, 3.0) < 0.004
    # half a deviation away: 2 Phi(1/4) - 1
    assert fit.distance_to(0.5, 3.0).item() == pytest.approx(0.1974, abs=0.004)


@pytest.mark.parametrize("numbers", [torch.full((3, 4), 2.5), torch.empty(3, 0)])
def test_constant_or_no_numbers_have_no_distance(numbers):
    fit = normal_fit(numbers)
    assert fit.sigma.max() == 0 == fit.distance.max()
    assert (fit.num_entries == numbers.shape[1]).all()


def test_a_nan_shows_in_its_set_only():
    samples = torch.randn(2, 50, dtype=torch.float64)
    clean = normal_fit(samples)
    samples[0, 3] = float("nan")
    fit = normal_fit(samples)
    assert fit.mu[0].isnan()
    assert fit.distance[0].isnan()
    assert torch.equal(fit.counts[1], clean.counts[1])
    assert fit.distance[1] == clean.distance[1]
