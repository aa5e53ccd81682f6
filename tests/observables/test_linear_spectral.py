"""Gaps of linear attentions against dense eigenvalues and singular values."""

import numpy as np
import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.observables.linear_spectral import linear_spectral_gaps, lln_spectral_gaps
from tests.oracles import lln as lln_oracle
from tests.oracles import spectral as oracle
from tests.tolerances import SPECTRAL_FLOAT32_ERROR, assert_identity

SCALES = {"query_scale": 1.7, "key_scale": 2.1}


def inputs(*, key_heads=3, positions=20, head_dim=6):
    query = torch.randn(2, 3, positions, head_dim, dtype=torch.float64)
    return query, torch.randn(2, key_heads, positions, head_dim, dtype=torch.float64)


def both(matrices, present=None):
    functions = (oracle.second_eigenvalue, oracle.largest_centred_singular_value)
    return [torch.from_numpy(oracle.over_heads(f, matrices, present)) for f in functions]


def lln_matrices(query, key, seen):
    group = query.shape[1] // key.shape[1]
    result = np.zeros(seen.shape)
    for b, h in np.ndindex(*seen.shape[:2]):
        result[b, h] = lln_oracle.weights(query[b, h], key[b, h // group], 1.7, 2.1, seen[b, h])
    return result


@pytest.mark.parametrize("positions", [1, 2, 5, 20])
@pytest.mark.parametrize("features", [1, 4, 30])
def test_any_positive_features(positions, features):
    query, key = torch.rand(2, 2, 3, positions, features, dtype=torch.float64).unbind(0)
    products = query @ key.mT
    weights = products / products.sum(dim=-1, keepdim=True)
    for found, expected in zip(linear_spectral_gaps(query, key), both(weights), strict=True):
        assert_identity(found.magnitude, expected)
        assert_identity(found.gap, 1 - expected)


def test_features_may_have_zeros_but_rows_may_not():
    features = torch.randn(1, 1, 50, 8, dtype=torch.float64).relu()
    products = features @ features.mT
    eigen, _ = linear_spectral_gaps(features, features)
    weights = products / products.sum(dim=-1, keepdim=True)
    assert_identity(eigen.magnitude, both(weights)[0])
    features[0, 0, 3] = 0.0
    with pytest.raises(ArgumentError, match=r"a positive sum of weights, got 0\.0"):
        linear_spectral_gaps(features, features)
    present = torch.arange(50) != 3
    assert linear_spectral_gaps(features, features, present[None, None])[0].magnitude.isfinite()


def test_lln():
    query, key = inputs(key_heads=1)
    seen = np.ones((2, 3, 20, 20), dtype=bool)
    found = lln_spectral_gaps(query, key, enable_gqa=True, **SCALES)
    expected = both(lln_matrices(query, key, seen))
    for gap, magnitude in zip(found, expected, strict=True):
        assert_identity(gap.magnitude, magnitude)
    narrow = lln_spectral_gaps(query.float(), key.float(), enable_gqa=True, **SCALES)
    for gap, magnitude in zip(narrow, expected, strict=True):
        assert (gap.magnitude - magnitude).abs().max() <= SPECTRAL_FLOAT32_ERROR


def test_lln_padding_is_deletion():
    query, key = inputs()
    present = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    present[0, ..., 13:] = False
    present[1, ..., :4] = False
    query = query.masked_fill(~present.mT, 1e4)
    seen = present.expand(2, 3, 20, 20).numpy()
    expected = both(lln_matrices(query, key, seen), present.expand(2, 3, 1, 20)[:, :, 0].numpy())
    for gap, magnitude in zip(
        lln_spectral_gaps(query, key, mask=present, **SCALES), expected, strict=True
    ):
        assert_identity(gap.magnitude, magnitude)


@pytest.mark.parametrize("padded", [False, True])
def test_causal_lln_is_the_diagonal(padded):
    query, key = inputs()
    mask = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    if padded:
        mask[0, ..., 15:] = mask[1, ..., :4] = False
    eigen, singular = lln_spectral_gaps(query, key, mask=mask, is_causal=True, **SCALES)
    seen = (mask & torch.ones(20, 20, dtype=torch.bool).tril()).expand(2, 3, 20, 20).numpy()
    diagonal = lln_matrices(query, key, seen).diagonal(axis1=-2, axis2=-1)
    assert_identity(eigen.magnitude, torch.from_numpy(np.sort(diagonal)[..., -2].copy()))
    assert singular is None


def test_large_exponents_do_not_overflow():
    query, key = inputs()
    for gap in lln_spectral_gaps(query * 300, key * 300, **SCALES):
        assert gap.magnitude.isfinite().all()
    assert (
        lln_spectral_gaps(query * 300, key * 300, is_causal=True, **SCALES)[0].magnitude.max() <= 1
    )


def test_matched_scales_by_default():
    query, key = inputs()
    assert lln_spectral_gaps(query, key)[0].magnitude.shape == (2, 3)
    assert lln_spectral_gaps(query, key, is_causal=True)[0].magnitude.shape == (2, 3)


@pytest.mark.parametrize("positions", [0, 1])
def test_without_two_positions_the_gap_is_one(positions):
    for arguments in ({}, {"is_causal": True}):
        for gap in lln_spectral_gaps(*inputs(positions=positions), **arguments, **SCALES):
            if gap is not None:
                assert_identity(gap.gap, torch.ones(2, 3))


def test_what_has_no_eigenvalues_is_refused():
    query, key = inputs()
    with pytest.raises(ArgumentError, match="`query` must be as long as `key`"):
        lln_spectral_gaps(query[:, :, 5:], key, **SCALES)
    mask = torch.ones(20, 20, dtype=torch.bool).tril(-1)
    with pytest.raises(ArgumentError, match="`mask` must let query i see key i"):
        lln_spectral_gaps(query, key, mask=mask, **SCALES)


def test_absent_positions_are_deleted_whatever_their_features():
    query, key = torch.rand(2, 2, 3, 12, 4, dtype=torch.float64).unbind(0)
    present = torch.arange(12) % 3 != 1
    expected = linear_spectral_gaps(query[:, :, present], key[:, :, present])
    found = linear_spectral_gaps(query, key, present[None, None])
    for gap, alone in zip(found, expected, strict=True):
        assert_identity(gap.magnitude, alone.magnitude)


def test_autocast_changes_nothing():
    query, key = torch.randn(2, 1, 2, 20, 8).unbind(0)
    outside = lln_spectral_gaps(query, key)[0].magnitude
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lln_spectral_gaps(query, key)[0].magnitude, outside)
