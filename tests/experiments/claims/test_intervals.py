import math

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, spearmanr

from gibbsian.experiments.claims.interpolation import exponent, sorted_sparsemax
from gibbsian.experiments.claims.intervals import (
    largest_of,
    mean_correlation,
    mean_of,
    rank_correlation,
    resampled,
    slope,
)
from gibbsian.experiments.claims.matrices import KERNELS, sample_distance
from gibbsian.experiments.claims.spectra import circulant, doubly_stochastic
from gibbsian.normalizers import entmax


def test_a_mean_has_student_s_interval():
    found = mean_of([1.0, 2.0, 3.0], "heads")
    # the 97.5 % quantile of Student's t with two degrees of freedom
    half = 4.302652729911275 / math.sqrt(3)
    assert found.value == 2
    assert found.count == 3
    assert found.over == "heads"
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_one_value_has_no_interval():
    with pytest.raises(ValueError, match="at least two, got 1"):
        mean_of([1.0])


def test_no_correlation_leaves_its_range():
    values = [0.9, 0.4, 1.0]
    plain = mean_of(values, "layers")
    assert plain.high > 1
    found = mean_correlation(values, "layers")
    assert (found.value, found.low, found.high) == (plain.value, plain.low, 1)
    assert (found.count, found.over, found.kind) == (3, "layers", "mean")
    below = mean_correlation([-v for v in values])
    assert (below.low, below.high) == (-1, -plain.low)
    inside = [0.5, 0.6, 0.55]
    assert mean_correlation(inside) == mean_of(inside)


def test_the_largest_keeps_the_range():
    found = largest_of([3.0, 1.0, 2.0])
    assert (found.value, found.low, found.high, found.kind) == (3, 1, 3, "largest")


def test_slopes_and_ranks():
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 4.0, 4.0, 20.0]
    assert slope(x, [2 * v - 1 for v in x]) == pytest.approx(2)
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert rank_correlation(x, [7.0] * 4) == 0


def test_the_distance_of_two_samples_is_kolmogorov_and_smirnov_s():
    generator = np.random.default_rng(0)
    a, b = generator.normal(0.2, 1.3, 500), generator.exponential(size=300)
    assert sample_distance(torch.tensor(a), torch.tensor(b)) == pytest.approx(
        ks_2samp(a, b).statistic
    )


def test_the_exponent_tells_a_jump_from_a_slope():
    steps = (10, 100, 1000)
    assert exponent(lambda t: 3 * t, steps)[0] == pytest.approx(1)
    assert exponent(lambda t: (t > 0.37).double(), steps)[0] == pytest.approx(0)
    assert exponent(torch.sqrt, steps)[0] == pytest.approx(0.5)


def test_sparsemax_by_sorting_is_entmax_at_one():
    scores = torch.randn(20, 9, dtype=torch.float64)
    torch.testing.assert_close(sorted_sparsemax(scores), entmax(scores, 1.0))


@pytest.mark.parametrize("make", [circulant, doubly_stochastic])
def test_normal_matrices_are_normal_and_stochastic(make):
    matrix = make(torch.Generator().manual_seed(0), 12)
    torch.testing.assert_close(matrix @ matrix.mT, matrix.mT @ matrix)
    torch.testing.assert_close(matrix.sum(dim=-1), torch.ones(12, dtype=torch.float64))
    assert (matrix > 0).all()


@pytest.mark.parametrize("name", KERNELS)
def test_rows_of_every_kernel_sum_to_one(name):
    query, key = torch.randn(2, 30, 8, dtype=torch.float64)
    matrix = KERNELS[name](query, key)
    torch.testing.assert_close(matrix.sum(dim=-1), torch.ones(30, dtype=torch.float64))
    assert (matrix >= 0).all()


def test_resampled_intervals_are_those_of_the_mean_and_of_a_ratio():
    rng = np.random.default_rng(0)
    blocks = rng.normal(3.0, 2.0, (400, 2))
    found = resampled((blocks,), np.asarray, 0, "blocks")
    assert found.shape == (2,)
    error = blocks[:, 0].std(ddof=1) / 20
    assert found[0].value == pytest.approx(blocks[:, 0].mean())
    assert found[0].high - found[0].value == pytest.approx(1.96 * error, rel=0.15)
    assert found[0].value - found[0].low == pytest.approx(1.96 * error, rel=0.15)
    # numerator and denominator are drawn together: a ratio that is the same in all has no width
    ratio = resampled((2 * blocks, blocks), np.divide, 0, "blocks")[1]
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    assert (ratio.count, ratio.over, ratio.kind) == (400, "blocks", "resampled")
    with pytest.raises(ValueError, match="at least two"):
        resampled((blocks[:1],), np.asarray, 0, "blocks")
