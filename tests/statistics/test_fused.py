"""The fused statistics are `gibbs_statistics`, in values and derivatives."""

from dataclasses import fields

import pytest
import torch

from gibbsian.numerics import row_chunks
from gibbsian.statistics import GibbsStatistics, gibbs_statistics
from gibbsian.statistics.fused import fused_gibbs_statistics
from tests.tolerances import assert_gradients, assert_identity, assert_same

FIELDS = tuple(field.name for field in fields(GibbsStatistics))
DIFFERENTIABLE = FIELDS[:6]


def rows(*shape, dtype=torch.float64):
    """Rows of every kind: spread, flat, tied, with absent states, empty, of one state."""
    scores = torch.randn(*shape, dtype=dtype) * 3
    flat = scores.view(-1, shape[-1])
    flat[0] = 0.7
    flat[1] = flat[1].round()
    flat[2, ::2] = -torch.inf
    flat[3] = -torch.inf
    flat[4, 1:] = -torch.inf
    flat[5] = flat[5] * 1e4
    return scores


@pytest.mark.parametrize("shape", [(2, 3, 9), (7, 1), (6, 63), (2, 4, 130)])
@pytest.mark.parametrize("elements", [100, 1 << 18])
def test_values(monkeypatch, shape, elements):
    monkeypatch.setattr(row_chunks, "_ELEMENTS", elements)
    scores = rows(*shape)
    fused, expected = fused_gibbs_statistics(scores), gibbs_statistics(scores)
    for name in FIELDS:
        assert_identity(getattr(fused, name), getattr(expected, name))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_each_statistic(monkeypatch, name):
    monkeypatch.setattr(row_chunks, "_ELEMENTS", 20)
    scores = rows(2, 4, 9).requires_grad_()
    cotangent = torch.randn(2, 4, dtype=torch.float64)
    results = []
    for function in (fused_gibbs_statistics, gibbs_statistics):
        values = getattr(function(scores), name)
        finite = torch.where(values.isfinite(), values, 0.0)
        results.append(torch.autograd.grad((finite * cotangent).sum(), scores)[0])
    assert_identity(*results, scale=1e4)
    assert results[0].isfinite().all()


def test_gradients_to_second_order():
    def several(scores):
        statistics = fused_gibbs_statistics(scores)
        return torch.stack([getattr(statistics, name) for name in DIFFERENTIABLE])

    assert_gradients(several, (torch.randn(2, 4),), second_order=True)


def test_float32():
    scores = rows(8, 200, dtype=torch.float32)
    fused, expected = fused_gibbs_statistics(scores), gibbs_statistics(scores)
    for name in FIELDS:
        assert_same(getattr(fused, name), getattr(expected, name))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_score_stays_in_its_row(bad):
    scores = rows(8, 9)
    scores[6, 2] = bad
    fused, expected = fused_gibbs_statistics(scores), gibbs_statistics(scores)
    assert fused.entropy.isnan().tolist() == [False] * 6 + [True, False]
    for name in (*FIELDS, "log_partition", "num_states"):
        torch.testing.assert_close(getattr(fused, name), getattr(expected, name), equal_nan=True)


def test_a_row_of_one_bad_score_is_not_an_empty_row():
    fused = fused_gibbs_statistics(torch.tensor([[torch.nan]]))
    assert fused.num_states == 1
    assert fused.log_partition.isnan()


def test_no_states():
    statistics = fused_gibbs_statistics(torch.empty(2, 3, 0))
    assert torch.equal(statistics.entropy, torch.zeros(2, 3))
    assert torch.equal(statistics.log_partition, torch.full((2, 3), -torch.inf))


def test_vmap():
    scores = rows(3, 2, 9)

    def entropy(row):
        return fused_gibbs_statistics(row).entropy

    expected = entropy(scores)
    assert_identity(torch.func.vmap(entropy)(scores), expected)
    nested = torch.func.vmap(torch.func.vmap(entropy), in_dims=1, out_dims=1)
    assert_identity(nested(scores), expected)
