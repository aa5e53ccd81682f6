"""Merging statistics of disjoint sets of states: any split, any order, any gap."""

import functools
import itertools
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian.statistics import GibbsStatistics, gibbs_statistics
from tests.oracles import gibbs as oracle
from tests.tolerances import (
    ENTROPY_ERROR,
    STATISTICS_RELATIVE_ERROR,
    assert_gradients,
    assert_identity,
    assert_same,
)

FIELDS = [f.name for f in fields(GibbsStatistics)]


def assert_equal_statistics(actual, expected, *, scale=1.0):
    for name in FIELDS:
        assert_identity(getattr(actual, name), getattr(expected, name), scale=scale)


def parts_of(scores, sizes, **options):
    return [gibbs_statistics(part, **options) for part in scores.split(sizes, dim=-1)]


@given(
    scores=st.lists(st.floats(-20, 20), min_size=1, max_size=15),
    cuts=st.lists(st.integers(0, 15), max_size=4),
    temperature=st.floats(0.2, 5.0),
    data=st.data(),
)
def test_any_split_in_any_order_equals_one_pass(scores, cuts, temperature, data):
    n = len(scores)
    edges = [0, *sorted(min(c, n) for c in cuts), n]
    sizes = [b - a for a, b in itertools.pairwise(edges)]  # parts may be empty
    scores = torch.tensor(scores, dtype=torch.float64)
    parts = data.draw(st.permutations(parts_of(scores, sizes, temperature=temperature)))
    merged = functools.reduce(GibbsStatistics.merge, parts)
    # moments grow with the third power of the spread
    assert_equal_statistics(
        merged, gibbs_statistics(scores, temperature=temperature), scale=(200.0) ** 3 / 1e3
    )


def test_merging_is_associative_and_commutative():
    scores = torch.randn(7, 30, dtype=torch.float64) * 4
    a, b, c = parts_of(scores, [4, 15, 11])
    assert_equal_statistics(a.merge(b).merge(c), a.merge(b.merge(c)), scale=10.0)
    assert_equal_statistics(a.merge(b), b.merge(a), scale=10.0)


def test_empty_parts_change_nothing():
    full = gibbs_statistics(torch.randn(3, 5, dtype=torch.float64), temperature=0.7)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    empty = gibbs_statistics(torch.randn(3, 5, dtype=torch.float64), mask=mask, temperature=0.7)
    for merged, expected in (
        (full.merge(empty), full),
        (empty.merge(full), full),
        (empty.merge(empty), empty),
    ):
        for name in FIELDS:
            assert torch.equal(getattr(merged, name), getattr(expected, name)), name


def test_rows_that_are_empty_on_different_sides():
    scores = torch.randn(4, 6, dtype=torch.float64)
    mask = torch.tensor(
        [
            [True, True, True, False, False, False],
            [False, False, False, True, True, True],
            [False] * 6,
            [True] * 6,
        ]
    )
    a = gibbs_statistics(scores[:, :3], mask=mask[:, :3])
    b = gibbs_statistics(scores[:, 3:], mask=mask[:, 3:])
    assert_equal_statistics(a.merge(b), gibbs_statistics(scores, mask=mask))


def test_streaming_over_many_blocks_equals_one_pass():
    scores = torch.randn(2, 4096, dtype=torch.float64) * 3
    stream = functools.reduce(GibbsStatistics.merge, parts_of(scores, 8))
    assert_equal_statistics(stream, gibbs_statistics(scores), scale=10.0)


def test_streaming_in_float32_keeps_its_digits():
    """Also where raw moments would lose them: a nearly uniform row far from 0."""
    for std, offset in ((1e-2, 0.0), (2.0, 1e5)):
        scores = torch.randn(20_000) * std + offset
        expected = oracle.statistics(scores.numpy())
        stream = functools.reduce(GibbsStatistics.merge, parts_of(scores, 100))
        assert abs(float(stream.entropy) - expected["entropy"]) < ENTROPY_ERROR * 5
        relative = float(stream.varentropy) / expected["varentropy"] - 1
        assert abs(relative) < STATISTICS_RELATIVE_ERROR


@pytest.mark.parametrize("gap", [30.0, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_huge_gap_between_blocks_leaves_the_heavier_one(gap, dtype):
    low = (torch.randn(2, 5, dtype=dtype) - gap).requires_grad_()
    high = torch.randn(2, 5, dtype=dtype, requires_grad=True)
    heavy = gibbs_statistics(high)
    for merged in (
        gibbs_statistics(low).merge(heavy),
        heavy.merge(gibbs_statistics(low)),
    ):
        for name in FIELDS:
            value = getattr(merged, name)
            if name == "num_states":
                assert (value == 10).all()
                continue
            assert_same(value, getattr(heavy, name))
            if name == "temperature":
                continue
            grads = torch.autograd.grad(value.sum(), (low, high), retain_graph=True)
            assert all(g.isfinite().all() for g in grads), name


@pytest.mark.parametrize("name", [n for n in FIELDS if n not in {"num_states", "temperature"}])
def test_gradients_through_a_merge(name):
    scores = torch.tensor([[0.3, -1.2, 0.9, 2.2, 0.0], [-0.4, 0.1, 1.0, 0.5, -2.0]])
    temperature = torch.tensor([0.8, 1.9])

    def value(scores, temperature):
        a, b = parts_of(scores, [2, 3], temperature=temperature)
        return getattr(a.merge(b), name)

    assert_gradients(value, (scores, temperature), second_order=True)


def test_gradients_through_a_merge_equal_those_of_one_pass():
    scores = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    a, b = parts_of(scores, [4, 5])
    for name in ("entropy", "varentropy", "third_cumulant", "log_partition"):
        merged = torch.autograd.grad(getattr(a.merge(b), name).sum(), scores, retain_graph=True)
        direct = torch.autograd.grad(getattr(gibbs_statistics(scores), name).sum(), scores)
        assert_identity(merged[0], direct[0])
