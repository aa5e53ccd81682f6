"""Temperatures of heads against all pairs in NumPy."""

import numpy as np
import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.attention.lln.matching import matching_fit
from gibbsian.observables import head_temperatures
from tests.oracles import temperature as oracle
from tests.tolerances import assert_as_accurate_as, assert_identity, assert_same

FIELDS = ("query_variance", "key_variance", "cross_covariance", "score_variance", "softmax")


def inputs(dtype=torch.float64, *, heads=4, key_heads=2, queries=9, keys=11, dim=6):
    # channels of different size and offset: the cross term is not 0
    sizes = torch.linspace(0.3, 2, dim, dtype=torch.float64)
    query = torch.randn(2, heads, queries, dim, dtype=torch.float64) * sizes + sizes
    key = torch.randn(2, key_heads, keys, dim, dtype=torch.float64) * sizes - 1.5 * sizes
    return query.to(dtype), key.to(dtype)


def expected(query, key, *, scale, queries=None, keys=None):
    group = query.shape[1] // key.shape[1]
    result = {name: np.zeros(tuple(query.shape[:2])) for name in FIELDS}
    for b, h in np.ndindex(*query.shape[:2]):
        q, k = query[b, h].double().numpy(), key[b, h // group].double().numpy()
        q, k = (q[queries[b]] if queries else q), (k[keys[b]] if keys else k)
        found = oracle.head(q, k, scale=scale)
        for name in FIELDS:
            result[name][b, h] = found[name]
    return {name: torch.as_tensor(numbers) for name, numbers in result.items()}


@pytest.mark.parametrize("scale", [None, 0.7])
def test_moments_and_softmax_temperature(scale):
    query, key = inputs()
    found = head_temperatures(query, key, scale=scale, enable_gqa=True)
    for name, truth in expected(query, key, scale=scale or 6**-0.5).items():
        assert_identity(getattr(found, name), truth)
    assert (found.cross_covariance.abs() > 0.05).all()


def test_padding_does_not_count():
    query, key = inputs(queries=11)
    mask = torch.ones(2, 1, 1, 11, dtype=torch.bool)
    mask[1, ..., 8:] = False
    found = head_temperatures(query, key, mask=mask, enable_gqa=True)
    whole = [slice(None), slice(0, 8)]
    truth = expected(query, key, scale=6**-0.5, queries=whole, keys=whole)
    for name in FIELDS:
        assert_identity(getattr(found, name), truth[name])


def test_queries_that_see_nothing_do_not_count():
    query, key = inputs(queries=5)
    mask = torch.ones(5, 11, dtype=torch.bool)
    mask[1] = False
    found = head_temperatures(query, key, mask=mask, enable_gqa=True)
    rows = [[0, 2, 3, 4]] * 2
    truth = expected(query, key, scale=6**-0.5, queries=rows)
    for name in FIELDS:
        assert_identity(getattr(found, name), truth[name])


def test_float32():
    query, key = inputs(torch.float32)
    found = head_temperatures(query, key, enable_gqa=True)
    for name, truth in expected(query, key, scale=6**-0.5).items():
        actual = getattr(found, name)
        scale = (query.abs().max() * key.abs().max()).item() ** 2
        assert_as_accurate_as(actual, truth.float(), truth, scale=scale)
        assert actual.dtype == torch.float32


def test_matched_lln_lacks_the_cross_term_only():
    query, key = inputs()
    found = head_temperatures(query, key, enable_gqa=True)
    assert_identity(found.lln, (found.query_variance * found.key_variance).rsqrt())


def test_lln_at_scales_of_its_own():
    query, key = inputs()
    scale = torch.tensor([2.0, 2.1, 2.2, 2.3], dtype=torch.float64)
    found = head_temperatures(query, key, enable_gqa=True, query_scale=scale, key_scale=2.5)
    fit = matching_fit(6)
    spread = scale**2 * found.query_variance + 2.5**2 * found.key_variance
    assert_identity(found.lln, (fit.slope * spread + fit.intercept).rsqrt())


def test_a_hotter_head_has_smaller_scores():
    query, key = inputs()
    found = head_temperatures(query, key, scale=0.5, enable_gqa=True)
    hotter = head_temperatures(query, key, scale=0.25, enable_gqa=True)
    assert_same(hotter.softmax, 2 * found.softmax)
    assert_same(hotter.score_variance, found.score_variance / 4)


def test_scores_that_do_not_vary_are_infinitely_hot():
    found = head_temperatures(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 4, 2))
    assert found.softmax.item() == torch.inf
    assert found.score_variance.item() == 0


def test_one_scale_alone_is_refused():
    query, key = inputs(key_heads=4)
    with pytest.raises(ArgumentError, match="must be given together"):
        head_temperatures(query, key, query_scale=2.0)
