"""Softmax: torch's values, with the edge rules."""

import pytest
import torch

from gibbsian import entmax, softmax
from gibbsian._errors import ArgumentError
from tests.tolerances import (
    NORMALISATION_ERROR,
    assert_gradients,
    assert_identity,
    assert_same,
)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_equals_torch_and_entmax_at_zero(dim):
    scores = torch.randn(3, 7, dtype=torch.float64) * 5
    assert_identity(softmax(scores, dim=dim), scores.softmax(dim))
    assert_identity(softmax(scores, dim=dim), entmax(scores, 0.0, dim=dim))


def test_masking_is_deletion_and_empty_rows_are_zero():
    scores = torch.tensor([[0.0, torch.nan, 1.0], [2.0, 3.0, 4.0]], requires_grad=True)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    probs = softmax(scores, mask=mask)
    assert_same(probs[0, [0, 2]], torch.tensor([0.0, 1.0]).softmax(-1))
    assert probs[0, 1] == 0
    assert probs[1].tolist() == [0.0, 0.0, 0.0]
    (grad,) = torch.autograd.grad(probs.square().sum(), scores)
    assert grad.isfinite().all()
    assert (grad[~mask] == 0).all()
    assert softmax(torch.zeros(2, 0)).shape == (2, 0)
    assert softmax(torch.full((2,), -torch.inf)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n", [1000, 100_000, 1_000_000])
def test_a_million_states_sum_to_one_where_torch_drifts(n):
    for scores in (torch.zeros(n), torch.full((n,), 1e5).index_fill(0, torch.tensor(0), 1e5 + 5)):
        assert abs(float(softmax(scores).double().sum()) - 1) < NORMALISATION_ERROR


def test_derivatives():
    mask = torch.tensor([True, True, False, True])
    assert_gradients(lambda x: softmax(x, mask=mask), (torch.randn(2, 4),), second_order=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_float32_result_rounded_once(dtype):
    scores = (torch.randn(3, 200) * 3).to(dtype)
    assert torch.equal(softmax(scores), softmax(scores.float()).to(dtype))


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match="`mask` must broadcast"):
        softmax(torch.zeros(3), mask=torch.ones(4, dtype=torch.bool))
