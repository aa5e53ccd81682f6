"""Distances between heads against whole matrices in NumPy."""

import numpy as np
import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.observables import agreement, head_agreement
from tests.observables.cases import CASES, build
from tests.oracles import rows as oracle
from tests.tolerances import assert_as_accurate_as, assert_identity


def expected(query, key, options, seen, rows):
    p = oracle.weights(query, key, seen=seen.numpy(), scale=options["scale"])
    present = seen.any(dim=-1).numpy()
    truth = [oracle.agreement(p[b][:, rows], present[b][:, rows]) for b in range(len(p))]
    return torch.as_tensor(np.stack(truth))


@pytest.mark.parametrize("name", CASES)
def test_all_rows(name, monkeypatch):
    query, key, options, seen = build(name)
    monkeypatch.setattr(agreement, "_BLOCK_NUMBERS", 200)  # several blocks, the last one shorter
    found = head_agreement(query, key, **options)
    truth = expected(query, key, options, seen, list(range(query.shape[2])))
    assert_identity(found, truth)


@pytest.mark.parametrize("name", ["causal", "any mask, causal, grouped", "mask of queries"])
def test_some_rows(name):
    query, key, options, seen = build(name)
    rows = [7, 0, 3]
    found = head_agreement(query, key, rows=torch.tensor(rows), **options)
    assert_identity(found, expected(query, key, options, seen, rows))


def test_a_number_of_rows_is_spread_evenly_to_the_last_one():
    query, key, options, seen = build("plain")
    found = head_agreement(query, key, rows=3, **options)
    assert_identity(found, expected(query, key, options, seen, [2, 5, 8]))


def test_float32():
    query, key, options, seen = build("grouped", torch.float32)
    found = head_agreement(query, key, **options)
    truth = expected(query, key, options, seen, list(range(9)))
    assert_as_accurate_as(found, truth.float(), truth, scale=1.0)


def test_half_precision_is_computed_in_float32():
    query, key, options, _ = build("grouped", torch.bfloat16)
    found = head_agreement(query, key, **options)
    assert torch.equal(found, head_agreement(query.float(), key.float(), **options))


def test_equal_heads_agree_and_disjoint_ones_do_not():
    query, key = torch.randn(1, 1, 6, 4).expand(1, 3, 6, 4), torch.randn(1, 1, 6, 4)
    assert head_agreement(query, key, enable_gqa=True).tolist() == [[0.0, 0.0, 0.0]]
    apart = torch.zeros(2, 1, 6, dtype=torch.bool)
    apart[0, :, :3], apart[1, :, 3:] = True, True
    disjoint = head_agreement(query[:, :2], key, enable_gqa=True, mask=apart)
    torch.testing.assert_close(disjoint, torch.ones(1, 2))


def test_a_head_alone_has_nothing_to_compare_with():
    assert head_agreement(torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)).item() == 0


@pytest.mark.parametrize("rows", [0, torch.tensor([0, 9]), torch.tensor([-1])])
def test_rows_that_are_none_are_named(rows):
    query, key, options, _ = build("plain")
    with pytest.raises(ArgumentError, match="`rows` must be"):
        head_agreement(query, key, rows=rows, **options)
