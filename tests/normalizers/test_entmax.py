"""Entmax: edge rules, arguments, dtypes, dimensions, mixed rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian import entmax
from gibbsian._errors import ArgumentError
from tests.oracles import entmax as oracle
from tests.tolerances import (
    ENTMAX_PROBABILITY_ERROR,
    HALF_PRECISION_ROUNDINGS,
    NORMALISATION_ERROR,
    assert_identity,
    assert_same,
)


def test_every_row_has_its_own_sparsity_in_one_call():
    scores = torch.randn(6, 50, dtype=torch.float64) * 2
    zeta = torch.tensor([0.0, 1e-8, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    probs = entmax(scores, zeta.unsqueeze(-1))
    for row, z, p in zip(scores, zeta, probs, strict=True):
        assert_identity(p, torch.from_numpy(oracle.probabilities(row.numpy(), float(z))))
    assert_identity(probs[0], scores[0].softmax(-1))


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
def test_any_dimension_with_masks_and_sparsity_in_its_layout(dim):
    scores = torch.randn(3, 4, 5, dtype=torch.float64)
    mask = torch.rand(3, 4, 5) > 0.3
    zeta = torch.rand(3, 4, 5, dtype=torch.float64).narrow(dim, 0, 1)
    moved = entmax(
        scores.movedim(dim, -1).contiguous(), zeta.movedim(dim, -1), mask=mask.movedim(dim, -1)
    )
    assert_identity(entmax(scores, zeta, mask=mask, dim=dim), moved.movedim(-1, dim))


def test_sparsity_broadcasts_from_fewer_dimensions():
    scores = torch.randn(2, 3, 4)
    per_row = torch.tensor([[0.0], [0.5], [1.0]])
    assert torch.equal(entmax(scores, per_row)[1], entmax(scores[1], per_row))
    assert_same(entmax(scores, torch.tensor(0.5)), entmax(scores, 0.5))


@pytest.mark.parametrize("zeta", [0.0, 1e-6, 0.5, 1.0])
def test_masking_is_deletion_and_minus_infinity_is_masking(zeta):
    scores = torch.randn(20, dtype=torch.float64)
    mask = torch.rand(20) > 0.4
    masked = entmax(scores, zeta, mask=mask)
    assert_identity(masked[mask], entmax(scores[mask], zeta))
    assert (masked[~mask] == 0).all()
    assert torch.equal(masked, entmax(scores.masked_fill(~mask, -torch.inf), zeta))
    # what a masked score is must not matter, in values and in gradients
    poisoned = scores.masked_fill(~mask, torch.nan).requires_grad_()
    probs = entmax(poisoned, zeta, mask=mask)
    assert torch.equal(probs, masked)
    (grad,) = torch.autograd.grad(probs.square().sum(), poisoned)
    assert grad.isfinite().all()
    assert (grad[~mask] == 0).all()


def test_rows_with_no_state_are_zero_with_zero_gradients():
    scores = torch.tensor([[-torch.inf, -torch.inf], [0.0, 1.0]], requires_grad=True)
    zeta = torch.tensor([[0.5], [0.5]], requires_grad=True)
    probs = entmax(scores, zeta)
    assert probs[0].tolist() == [0.0, 0.0]
    grads = torch.autograd.grad(probs.square().sum(), (scores, zeta))
    assert grads[0][0].tolist() == [0.0, 0.0]
    assert grads[1][0] == 0
    assert all(g.isfinite().all() for g in grads)
    assert (entmax(torch.randn(2, 3), 0.3, mask=torch.zeros(3, dtype=torch.bool)) == 0).all()


def test_rows_without_any_states_dimension():
    scores = torch.zeros(3, 0, requires_grad=True)
    zeta = torch.full((3, 1), 0.5, requires_grad=True)
    probs = entmax(scores, zeta)
    assert probs.shape == (3, 0)
    assert torch.autograd.grad(probs.sum(), scores)[0].shape == (3, 0)
    assert entmax(torch.zeros(0, 4), 0.5).shape == (0, 4)


@pytest.mark.parametrize("zeta", [0.0, 1e-8, 0.5, 1.0])
def test_single_states_ties_and_huge_scores(zeta):
    assert entmax(torch.tensor([[-7.0]]), zeta).item() == 1
    assert_same(entmax(torch.full((5,), 1e4), zeta), torch.full((5,), 0.2))
    top = entmax(torch.tensor([1e4, 1e4, -1e4, torch.finfo(torch.float32).min]), zeta)
    assert_same(top, torch.tensor([0.5, 0.5, 0.0, 0.0]))


@pytest.mark.parametrize("n", [1, 63, 1000, 1_000_000])
@pytest.mark.parametrize("zeta", [0.0, 0.01, 0.5, 1.0])
def test_rows_of_a_million_states_sum_to_one_in_float32(n, zeta):
    for scores in (torch.randn(n) * 0.01, torch.randn(n) * 5 + 1e5):
        probs = entmax(scores, zeta)
        assert abs(float(probs.double().sum()) - 1) < NORMALISATION_ERROR
        assert (probs >= 0).all()


def test_a_nan_or_infinite_score_spoils_its_own_row_only():
    scores = torch.tensor([[0.0, torch.nan], [0.0, torch.inf], [0.0, 1.0]])
    for zeta in (0.0, 0.5, 1.0):
        probs = entmax(scores, zeta)
        assert probs.isnan().any(dim=-1).tolist() == [True, True, False]


def test_a_sparsity_out_of_range_spoils_its_own_row_only():
    zeta = torch.tensor([[-0.1], [1.1], [torch.nan], [1 + 1e-7], [-1e-9], [0.5]])
    probs = entmax(torch.randn(6, 4), zeta)
    assert probs.isnan().all(dim=-1).tolist() == [True, True, True, False, False, False]


@pytest.mark.parametrize("zeta", [-0.1, 1.5, float("nan")])
def test_a_sparsity_out_of_range_is_refused(zeta):
    with pytest.raises(ArgumentError, match=r"`zeta` must lie in \[0, 1\] \(alpha in \[1, 2\]\)"):
        entmax(torch.zeros(2), zeta)
    with pytest.raises(ArgumentError, match=r"`zeta` must lie in \[0, 1\].*Clamp it"):
        entmax(torch.zeros(2, 2), torch.full((2, 1), zeta), validate=True)


def test_scores_are_validated_on_request():
    with pytest.raises(ArgumentError, match=r"`scores` must be finite or -inf, got 1 NaN"):
        entmax(torch.tensor([0.0, torch.nan]), 0.5, validate=True)
    entmax(torch.tensor([0.0, torch.nan]), 0.5, mask=torch.tensor([True, False]), validate=True)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 1, 1, 1), (5, 1)])
def test_a_sparsity_of_another_shape_is_refused(shape):
    with pytest.raises(ArgumentError, match=r"`zeta` must broadcast to `scores` with size 1"):
        entmax(torch.zeros(2, 3, 4), torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("zeta", [0.0, 1e-4, 0.5, 1.0])
def test_half_precision_is_the_float32_result_rounded_once(dtype, zeta):
    scores = (torch.randn(3, 2000) * 3).to(dtype)
    probs = entmax(scores, zeta)
    assert probs.dtype == dtype
    assert torch.equal(probs, entmax(scores.float(), zeta).to(dtype))
    expected = oracle.probabilities(scores[0].double().numpy(), zeta)
    error = (probs[0].double() - torch.from_numpy(expected)).abs().max()
    eps = torch.finfo(dtype).eps
    assert error <= ENTMAX_PROBABILITY_ERROR + HALF_PRECISION_ROUNDINGS * eps * expected.max()


@given(
    scores=st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=8),
    zeta=st.floats(0, 1),
    other=st.floats(0, 1),
)
def test_rows_do_not_leak_into_each_other(scores, zeta, other):
    row = torch.tensor(scores, dtype=torch.float64)
    alone = entmax(row, zeta)
    pair = entmax(
        torch.stack([row, row.flip(0) * 3]),
        torch.tensor([[zeta], [other]], dtype=torch.float64),
    )
    assert_identity(pair[0], alone)


def test_expanded_and_strided_inputs():
    base = torch.randn(1, 7)
    assert torch.equal(entmax(base.expand(3, 7), 0.5)[2], entmax(base[0], 0.5))
    wide = torch.randn(4, 14)
    assert torch.equal(entmax(wide[:, ::2], 0.5), entmax(wide[:, ::2].contiguous(), 0.5))
    scores = torch.randn(1, 7).requires_grad_()
    (grad,) = torch.autograd.grad(entmax(scores.expand(3, 7), 0.5).square().sum(), scores)
    assert grad.shape == (1, 7)
