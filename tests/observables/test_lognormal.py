"""Log-normality: moments, distance and quantiles against sorted dense weights."""

import numpy as np
import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.observables import blocks
from gibbsian.observables.lognormal import lognormal_fit
from tests.oracles import lognormal as oracle
from tests.tolerances import (
    LOGNORMAL_DISTANCE_ERROR,
    LOGNORMAL_PREDICTION_ERROR,
    QUANTILE_ERROR,
    assert_identity,
)


def inputs(*, batch=2, heads=2, key_heads=None, queries=40, keys=40, head_dim=8, spread=1.0):
    query = torch.randn(batch, heads, queries, head_dim, dtype=torch.float64) * spread
    return query, torch.randn(batch, key_heads or heads, keys, head_dim, dtype=torch.float64)


def entries(query, key, b, h, *, seen, scale=None):
    group = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return oracle.log_weights(query[b, h], key[b, h // group], seen[b, h], scale)


CASES = {
    "all": {},
    "causal": {"is_causal": True},
    "masked": {"mask": torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(3)) > 0.4},
    "scaled": {"scale": 0.1},
}


def visible(arguments, shape):
    seen = torch.ones(shape, dtype=torch.bool)
    if arguments.get("is_causal"):
        seen = seen.tril()
    return (seen & arguments.get("mask", torch.ones((), dtype=torch.bool))).numpy()


@pytest.mark.parametrize("block", [None, 1000])
@pytest.mark.parametrize("arguments", CASES.values(), ids=CASES)
def test_fit_against_the_sorted_entries(arguments, block, monkeypatch):
    if block is not None:
        monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", block)
    query, key = inputs(key_heads=1)
    if "mask" in arguments:
        arguments["mask"][0, 0, 7] = False  # a row without keys
    fit = lognormal_fit(query, key, enable_gqa=True, **arguments)
    seen = visible(arguments, (2, 2, 40, 40))
    probabilities = torch.tensor([0.001, 0.1, 0.5, 0.9, 0.999], dtype=torch.float64)
    measured, normal = fit.quantiles(probabilities)
    assert_identity(torch.special.ndtr(normal), probabilities)
    for b, h in np.ndindex(2, 2):
        logs = entries(query, key, b, h, seen=seen, scale=arguments.get("scale"))
        assert fit.num_entries[b, h] == logs.size == fit.counts[b, h].sum()
        assert_identity(fit.mu[b, h], logs.mean())
        assert_identity(fit.sigma[b, h], logs.std())
        exact = oracle.distance(logs, logs.mean(), logs.std())
        assert abs(fit.distance[b, h].item() - exact) <= LOGNORMAL_DISTANCE_ERROR
        predicted = fit.predicted_mu[b, h].item(), fit.predicted_sigma[b, h].item()
        exact = oracle.distance(logs, *predicted)
        allowed = LOGNORMAL_DISTANCE_ERROR * max(1.0, logs.std() / predicted[1])
        assert abs(fit.predicted_distance[b, h].item() - exact) <= allowed
        standard = (logs - logs.mean()) / logs.std()
        expected = np.quantile(standard, probabilities.numpy(), method="inverted_cdf")
        assert np.abs(measured[b, h].numpy() - expected).max() <= QUANTILE_ERROR


def test_prediction_by_its_formula():
    query, key = inputs(spread=2.0)
    query = query - query.mean(dim=(-2, -1), keepdim=True)
    key = key - key.mean(dim=(-2, -1), keepdim=True)
    fit = lognormal_fit(query, key, is_causal=True)
    n = torch.arange(1.0, 41.0, dtype=torch.float64)
    for b, h in np.ndindex(2, 2):
        q, k = query[b, h], key[b, h]
        channels = torch.stack([q.square().mean(dim=0), k.square().mean(dim=0)])
        means = torch.stack([q.mean(dim=0), k.mean(dim=0)])
        cross = torch.cov(channels, correction=0)[0, 1] - torch.cov(means, correction=0)[0, 1] ** 2
        variance = q.square().mean() * k.square().mean() + cross
        assert_identity(fit.predicted_sigma[b, h], variance.sqrt())
        assert_identity(fit.predicted_mu[b, h], -(n * n.log()).sum() / n.sum() - variance / 2)
        fenton = n.log() + (variance - torch.log(1 + torch.expm1(variance) / n)) / 2
        assert_identity(fit.fenton_mu[b, h], -(n * fenton).sum() / n.sum())


def test_proposition_3_1_on_gaussian_inputs():
    query, key = inputs(batch=1, heads=2, queries=512, keys=2048, head_dim=64)
    fit = lognormal_fit(query.float(), key.float())
    for measured, predicted in ((fit.mu, fit.predicted_mu), (fit.sigma, fit.predicted_sigma)):
        assert (measured - predicted).abs().max() <= LOGNORMAL_PREDICTION_ERROR
    assert fit.distance.max() <= LOGNORMAL_PREDICTION_ERROR
    assert fit.predicted_distance.max() <= LOGNORMAL_PREDICTION_ERROR


def test_few_keys_and_a_large_variance_are_where_it_fails():
    query, key = inputs(batch=1, queries=4000, keys=16, head_dim=64, spread=1.4)
    fit = lognormal_fit(query, key)
    error = (fit.mu - fit.predicted_mu).abs()
    assert (error > 4 * LOGNORMAL_PREDICTION_ERROR).all()
    # Fenton's mean of log Z repairs most of it in his moderate range, and overshoots beyond it
    assert ((fit.mu - fit.fenton_mu).abs() < error / 2).all()
    query, key = inputs(batch=1, queries=4000, keys=16, head_dim=64, spread=3.0)
    fit = lognormal_fit(query, key)
    assert (fit.mu < fit.fenton_mu - 10 * LOGNORMAL_PREDICTION_ERROR).all()


def test_a_large_variance_does_not_overflow():
    query, key = inputs(batch=1, spread=100.0)
    fit = lognormal_fit(query.float(), key.float())
    assert fit.fenton_mu.isfinite().all()
    assert fit.predicted_distance.isfinite().all()


def test_uniform_weights_are_a_normal_of_no_width():
    query, key = torch.zeros(1, 1, 6, 4), torch.randn(1, 1, 8, 4)
    fit = lognormal_fit(query, key)
    assert torch.allclose(fit.mu, -torch.tensor(8.0).log())
    assert fit.sigma.max() == 0 == fit.distance.max()
    assert torch.equal(fit.predicted_mu, fit.mu)


@pytest.mark.parametrize("nothing", ["mask", "queries", "keys"])
def test_without_entries_everything_is_zero(nothing):
    query, key = inputs(
        queries=0 if nothing == "queries" else 5, keys=0 if nothing == "keys" else 7
    )
    mask = torch.zeros(5, 7, dtype=torch.bool) if nothing == "mask" else None
    fit = lognormal_fit(query, key, mask=mask)
    for name in ("mu", "sigma", "predicted_mu", "predicted_sigma", "fenton_mu", "distance"):
        assert (getattr(fit, name) == 0).all(), name
    assert (fit.predicted_distance == 0).all()


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.5])
def test_quantiles_lie_between_zero_and_one(wrong):
    fit = lognormal_fit(*inputs(batch=1, heads=1))
    with pytest.raises(ArgumentError, match=r"`probabilities` must lie in \(0, 1\)"):
        fit.quantiles(torch.tensor([0.5, wrong]))


@pytest.mark.parametrize("which", ["query", "key"])
def test_a_nan_shows_in_its_head_only(which):
    pair = dict(zip(("query", "key"), inputs(), strict=True))
    clean = lognormal_fit(**pair)
    pair[which][0, 1, 5, 2] = float("nan")
    fit = lognormal_fit(**pair)
    for name in ("mu", "sigma", "distance"):
        found, expected = getattr(fit, name), getattr(clean, name).clone()
        assert found[0, 1].isnan()
        expected[0, 1] = float("nan")
        assert torch.equal(found.nan_to_num(-1.0), expected.nan_to_num(-1.0))


def test_autocast_changes_nothing():
    query, key = (tensor.float() for tensor in inputs())
    plain = lognormal_fit(query, key)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lognormal_fit(query, key).mu, plain.mu)
