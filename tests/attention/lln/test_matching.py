"""Moment matching: the three ranges against Monte Carlo, the table, and what matching attains."""

import json
import math

import numpy as np
import pytest
import torch

from gibbsian.attention.lln import (
    MatchingFit,
    broad_variance,
    fenton_mean,
    fenton_variance,
    fit_matching,
    lln_temperature,
    matched_scales,
    matching_fit,
    narrow_variance,
    softmax_temperature,
)
from tests.tolerances import (
    FENTON_ERROR,
    MATCHED_VARIANCE_ERROR,
    NARROW_ERROR,
    assert_identity,
)

TABLE = json.loads(fit_matching.TABLE.read_text(encoding="utf-8"))


def log_of_sums(head_dim, sigma_squared, draws=200_000):
    """Log of the sum of head_dim log-normals, by sampling."""
    rng = np.random.default_rng(0)
    exponents = rng.standard_normal((draws, head_dim)) * math.sqrt(sigma_squared)
    return np.log(np.exp(exponents).sum(axis=1))


def log_variance_by_numpy(head_dim, keys, query_std, key_std, repeats=8):
    """Var(log P) of LLN for elements of these standard deviations after scaling."""
    rng = np.random.default_rng(1)
    total = 0.0
    for _ in range(repeats):
        a = np.exp(query_std * rng.standard_normal((keys, head_dim)))
        b = np.exp(key_std * rng.standard_normal((keys, head_dim)))
        p = a @ b.T
        total += np.log(p / p.sum(axis=1, keepdims=True)).var()
    return total / repeats


@pytest.mark.parametrize("head_dim", [8, 32, 128])
def test_narrow_range(head_dim):
    expected = log_of_sums(head_dim, 0.01).var()
    narrow = float(narrow_variance(torch.tensor(0.01), head_dim))
    assert abs(narrow / expected - 1) < NARROW_ERROR


@pytest.mark.parametrize("head_dim", [8, 32, 128])
@pytest.mark.parametrize("sigma_squared", [0.1, 0.5])
def test_fentons_range(head_dim, sigma_squared):
    sums = log_of_sums(head_dim, sigma_squared)
    s = torch.tensor(sigma_squared, dtype=torch.float64)
    assert abs(float(fenton_variance(s, head_dim)) / sums.var() - 1) < FENTON_ERROR
    assert abs(float(fenton_mean(s, head_dim)) / sums.mean() - 1) < FENTON_ERROR


def test_fenton_matches_the_first_two_moments_of_the_sum():
    s, head_dim = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64), 16
    mean, variance = fenton_mean(s, head_dim), fenton_variance(s, head_dim)
    assert_identity((mean + variance / 2).exp(), head_dim * (s / 2).exp())
    second = head_dim * (2 * s).exp() + head_dim * (head_dim - 1) * s.exp()
    assert_identity((2 * mean + 2 * variance).exp(), second, scale=1e3)
    small = torch.tensor(1e-9, dtype=torch.float64)
    assert_identity(fenton_variance(small, head_dim) / narrow_variance(small, head_dim), 1.0)


def test_points_of_the_table_come_back_and_between_them_is_between():
    for i, head_dim in enumerate(TABLE["head_dims"]):
        for j, keys in enumerate(TABLE["num_keys"]):
            fit = matching_fit(head_dim, keys)
            assert fit.slope == pytest.approx(TABLE["slope"][i][j], rel=1e-12)
            assert fit.intercept == pytest.approx(TABLE["intercept"][i][j], rel=1e-12)
    middle = matching_fit(round(math.sqrt(64 * 128)), 512)
    assert matching_fit(128, 512).slope < middle.slope < matching_fit(64, 512).slope
    assert matching_fit(1024, 10**6) == matching_fit(256, 4096)
    assert matching_fit(1, 1) == matching_fit(4, 64)


def test_the_command_makes_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(fit_matching, "HEAD_DIMS", (16,))
    monkeypatch.setattr(fit_matching, "NUM_KEYS", (256,))
    monkeypatch.setattr(fit_matching, "ENTRIES", 2**17)
    monkeypatch.setattr(fit_matching, "TABLE", tmp_path / "table.json")
    threads = torch.get_num_threads()
    fit_matching.main()
    torch.set_num_threads(threads)
    made = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert made.keys() == TABLE.keys()
    remade = MatchingFit(slope=made["slope"][0][0], intercept=made["intercept"][0][0])
    shipped = matching_fit(16, 256)
    for sigma_squared in torch.tensor([2.0, 7.0]):
        difference = broad_variance(sigma_squared, remade) - broad_variance(sigma_squared, shipped)
        assert abs(float(difference)) < MATCHED_VARIANCE_ERROR


@pytest.mark.parametrize("head_dim", [8, 32, 45, 128, 256])
@pytest.mark.parametrize(("query_variance", "key_variance"), [(1.0, 1.0), (0.5, 0.8), (0.1, 2.0)])
def test_matched_rows_spread_like_softmax_rows(head_dim, query_variance, key_variance):
    query_scale, key_scale = matched_scales(
        torch.tensor(query_variance), torch.tensor(key_variance), head_dim=head_dim
    )
    query_std = float(query_scale) * math.sqrt(query_variance)
    key_std = float(key_scale) * math.sqrt(key_variance)
    assert query_std == pytest.approx(key_std)
    measured = log_variance_by_numpy(head_dim, 512, query_std, key_std, repeats=4)
    target = query_variance * key_variance
    assert abs(measured - target) < MATCHED_VARIANCE_ERROR
    if head_dim in (8, 256) and target == 1.0:
        # where one published pair for all head dimensions does not match
        sigma = math.sqrt((target + 0.35487) / (2 * 0.14855))
        published = log_variance_by_numpy(head_dim, 512, sigma, sigma, repeats=4)
        assert abs(published - target) > 2 * MATCHED_VARIANCE_ERROR


def test_scales_are_those_of_equation_10():
    fit = matching_fit(64)
    query_variance = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    key_variance = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    query_scale, key_scale = matched_scales(query_variance, key_variance, head_dim=64)
    sigma = ((query_variance[:2] * key_variance[:2] - fit.intercept) / fit.slope).sqrt()
    assert_identity(query_scale[:2], sigma / (2 * query_variance[:2]).sqrt())
    assert_identity(key_scale[:2], sigma / (2 * key_variance[:2]).sqrt())
    assert query_scale.isfinite().all()  # variance 0 too
    # unit variances: near the paper's 2 to 2.2
    assert 1.8 < float(query_scale[0]) < 2.5


def test_temperatures_agree_when_matched():
    query_variance = torch.tensor([1.0, 0.5], dtype=torch.float64)
    key_variance = torch.tensor([1.0, 2.0], dtype=torch.float64)
    scales = matched_scales(query_variance, key_variance, head_dim=32)
    assert_identity(
        lln_temperature(*scales, query_variance, key_variance, head_dim=32),
        softmax_temperature(query_variance, key_variance),
    )
    assert_identity(softmax_temperature(query_variance, key_variance, 3.0), 0.5)


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="`head_dim` must be >= 1, got 0"):
        matching_fit(0)
