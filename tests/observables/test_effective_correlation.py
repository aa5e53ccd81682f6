"""Leakage, cross-correlation and effective correlation against rows taken one at a time."""

import numpy as np
import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.observables import blocks
from gibbsian.observables.effective_correlation import effective_correlation, expanded_relevance
from tests.oracles import relevance as oracle
from tests.tolerances import assert_identity, assert_slope


def inputs(*, batch=2, heads=4, key_heads=2, queries=6, keys=9):
    query = torch.randn(batch, heads, queries, 5, dtype=torch.float64)
    key, value = torch.randn(2, batch, key_heads, keys, 5, dtype=torch.float64).unbind(0)
    return query, key, value[..., :3]


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
def test_against_single_rows(zeta, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 150)  # two rows at a time
    query, key, value = inputs()
    mask = torch.rand(2, 1, 6, 9) > 0.2
    mask[0, 0, 2] = False
    relevant = torch.rand(2, 1, 1, 9) > 0.6
    relevant[1, 0, 0] = torch.arange(9) < 3
    found = effective_correlation(
        query, key, value, relevant, zeta=zeta, mask=mask, enable_gqa=True
    )
    scores = oracle.scores(query, key, mask.expand(2, 4, 6, 9).numpy())
    missing = 0  # rows whose sparse weights have none on the relevant keys
    for b, h in np.ndindex(2, 4):
        pairs = []
        for i in range(6):
            output, restricted, leakage, cross = oracle.relevant_row(
                scores[b, h, i], value[b, h // 2].numpy(), zeta, relevant[b, 0, 0].numpy()
            )
            assert_identity(found.leakage[b, h, i], leakage)
            assert_slope(found.cross_correlation[b, h, i], cross)
            if restricted is None:
                missing += mask[b, 0, i].any().item()
            else:
                pairs.append((output, restricted))
        left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
        assert_identity(found.correlation[b, h], np.corrcoef(left, right)[0, 1])
    assert missing > 0 or zeta < 1


def test_softmax_cross_correlation_is_that_of_a_coin():
    query, key, value = inputs()
    relevant = torch.arange(9) < 3
    found = effective_correlation(query, key, value, relevant, enable_gqa=True, is_causal=True)
    assert_identity(found.cross_correlation, found.leakage * (1 - found.leakage))
    assert (found.leakage[..., :3] == 0).all()


def test_when_irrelevant_keys_only_scale_the_correlation_is_one():
    query, key, value = inputs()
    value[:, :, 5:] = 0.0
    query[:, :, 1:] = query[:, :, :1]  # one weight on R for all rows
    relevant = torch.arange(9) < 5
    found = effective_correlation(query, key, value, relevant, enable_gqa=True)
    assert (found.leakage > 0.01).all()
    assert_identity(found.correlation, torch.ones(2, 4))


def test_sparsity_that_cuts_the_rest_off_leaves_nothing_to_correct():
    query, key, value = inputs(heads=2)
    query[..., 0], key[..., 0] = 3.0, 0.0
    key[:, :, :3, 0] = 10.0
    relevant = torch.arange(9) < 3
    dense, sparse = (effective_correlation(query, key, value, relevant, zeta=z) for z in (0.0, 0.8))
    assert (dense.leakage > 0).all()
    assert (dense.correlation < 1).all()
    assert (sparse.leakage == 0).all()
    assert (sparse.cross_correlation == 0).all()
    assert_identity(sparse.correlation, torch.ones(2, 2))


def test_what_does_not_vary_has_no_correlation():
    query, key, value = inputs()
    relevant = torch.zeros(9, dtype=torch.bool)
    found = effective_correlation(query, key, value, relevant, enable_gqa=True)
    assert (found.correlation == 0).all()
    assert_identity(found.leakage, torch.ones(2, 4, 6))
    nothing = effective_correlation(
        query, key, value, ~relevant, enable_gqa=True, mask=torch.zeros(6, 9, dtype=torch.bool)
    )
    for field in (nothing.correlation, nothing.leakage, nothing.cross_correlation):
        assert (field == 0).all()


def test_relevant_keys_must_fit():
    query, key, value = inputs()
    message = r"`relevant` must broadcast to \(batch, heads, queries, keys\) \(2, 4, 6, 9\)"
    with pytest.raises(ArgumentError, match=message):
        effective_correlation(query, key, value, torch.rand(2, 9) > 0.5, enable_gqa=True)
    with pytest.raises(ArgumentError, match=r"`relevant` must be boolean.*got torch.float32"):
        expanded_relevance(torch.ones(9), (2, 4, 6, 9))


def test_autocast_changes_nothing():
    query, key, value = (tensor.float() for tensor in inputs())
    relevant = torch.arange(9) < 4
    outside = effective_correlation(query, key, value, relevant, enable_gqa=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = effective_correlation(query, key, value, relevant, enable_gqa=True)
    assert torch.equal(inside.correlation, outside.correlation)
    assert torch.equal(inside.leakage, outside.leakage)
