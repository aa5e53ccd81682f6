"""Fenchel-Young losses: definition, gradient p - e_y, edges, parity with the entmax package."""

import math

import entmax as peer
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gibbsian
from gibbsian import entmax
from gibbsian._errors import ArgumentError
from gibbsian.losses import fenchel_young_loss
from tests.oracles import entmax as oracle
from tests.tolerances import (
    ENTMAX_ALPHA_GRADIENT_ERROR,
    ENTROPY_ERROR,
    IDENTITY,
    assert_as_the_original,
    assert_gradients,
    assert_identity,
)

PAIRS = ["SparsemaxLoss", "Entmax15Loss", "EntmaxBisectLoss", "SparsemaxBisectLoss"]
FUNCTIONS = ["sparsemax_loss", "entmax15_loss", "entmax_bisect_loss", "sparsemax_bisect_loss"]


def batch(rows=6, classes=9, dtype=torch.float64):
    return torch.randn(rows, classes, dtype=dtype) * 2, torch.randint(classes, (rows,))


@pytest.mark.parametrize("zeta", [0.0, 1e-6, 0.3, 0.5, 1.0])
def test_loss_is_the_potential_minus_the_observed_score(zeta):
    scores, target = batch()
    losses = fenchel_young_loss(scores, target, zeta)
    for row, y, loss in zip(scores, target, losses, strict=True):
        assert_identity(loss, oracle.potential(row.numpy(), zeta) - float(row[y]))


@given(
    scores=st.lists(st.floats(-30, 30), min_size=2, max_size=8),
    zeta=st.floats(0, 1),
    data=st.data(),
)
def test_non_negative_and_zero_beyond_the_margin(scores, zeta, data):
    y = data.draw(st.integers(0, len(scores) - 1))
    row = torch.tensor([scores], dtype=torch.float64)
    assert fenchel_young_loss(row, torch.tensor([y]), zeta) >= -IDENTITY
    if zeta > 0.01:
        others = max(s for i, s in enumerate(scores) if i != y)
        row[0, y] = others + 1.01 / zeta
        loss = fenchel_young_loss(row.requires_grad_(), torch.tensor([y]), zeta)
        assert loss == 0
        assert (torch.autograd.grad(loss.sum(), row)[0] == 0).all()


def test_at_zero_it_is_the_cross_entropy():
    scores, target = batch()
    expected = nn.functional.cross_entropy(scores, target, reduction="none")
    assert_identity(fenchel_young_loss(scores, target, 0.0), expected)
    assert_identity(gibbsian.entmax_bisect_loss(scores, target, alpha=1.0), expected)


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_gradient_is_p_minus_the_observed_state(zeta):
    scores, target = batch()
    scores.requires_grad_()
    (grad,) = torch.autograd.grad(fenchel_young_loss(scores, target, zeta).sum(), scores)
    observed = nn.functional.one_hot(target, 9)
    assert_identity(grad, entmax(scores.detach(), zeta) - observed)


def test_derivatives_in_scores_and_sparsity():
    scores, target = batch(3, 5)
    zeta = torch.tensor([[0.2], [0.5], [0.8]])
    assert_gradients(
        lambda x, z: fenchel_young_loss(x, target, z), (scores, zeta), second_order=True
    )
    row, y = scores[0], target[0]
    hessian = torch.func.hessian(lambda x: fenchel_young_loss(x, y, 0.4))(row)
    assert_identity(hessian, torch.func.jacrev(lambda x: entmax(x, 0.4))(row))


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
def test_an_offset_costs_no_digits_in_float32(zeta):
    scores = (torch.randn(4, 30) * 64).round() / 64
    target = torch.tensor([0, 5, 7, 29])
    plain = fenchel_young_loss(scores, target, zeta)
    assert torch.equal(fenchel_young_loss(scores + 1e5, target, zeta), plain)
    for row, y, loss in zip(scores, target, plain, strict=True):
        expected = oracle.potential(row.numpy(), zeta) - float(row[y])
        assert abs(float(loss) - expected) < ENTROPY_ERROR


def test_absent_classes():
    scores = torch.tensor([[0.0, 1.0, -torch.inf], [0.0, -torch.inf, 1.0]], requires_grad=True)
    losses = fenchel_young_loss(scores, torch.tensor([0, 1]), 0.5)
    assert_identity(
        losses[0].double(),
        float(fenchel_young_loss(torch.tensor([[0.0, 1.0]]), torch.tensor([0]), 0.5)),
    )
    assert losses[1] == torch.inf
    (grad,) = torch.autograd.grad(losses[0], scores)
    assert grad.isfinite().all()


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
def test_a_row_without_classes_is_infinite_not_nan(zeta):
    scores = torch.tensor([[-torch.inf] * 3, [0.0, 1.0, 2.0]], requires_grad=True)
    losses = fenchel_young_loss(scores, torch.tensor([0, 1]), zeta)
    assert losses[0] == torch.inf
    (grad,) = torch.autograd.grad(losses.sum(), scores)
    assert grad.isfinite().all()
    assert (grad[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_mean_in_half_precision_does_not_overflow(dtype):
    scores = torch.zeros(20_000, 100, dtype=dtype)
    target = torch.zeros(20_000, dtype=torch.int64)
    loss = gibbsian.EntmaxBisectLoss(alpha=1.0)(scores, target)
    assert loss.dtype == dtype
    assert abs(loss.item() - math.log(100)) < 0.02


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_equal_the_originals(name):
    scores, target = batch(20, 50)
    scores.requires_grad_()
    results = []
    for package in (gibbsian, peer):
        losses = getattr(package, name)(scores, target)
        results.append((losses, torch.autograd.grad(losses.sum(), scores)[0]))
    for ours, theirs in zip(*results, strict=True):
        assert_as_the_original(ours, theirs)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("reduction", ["elementwise_mean", "sum", "none"])
@pytest.mark.parametrize("ignore_index", [-100, 3])
def test_modules_equal_the_originals(name, reduction, ignore_index):
    scores, target = batch(20, 6)
    target[4] = 3
    arguments = {"reduction": reduction, "ignore_index": ignore_index}
    ours = getattr(gibbsian, name)(**arguments)(scores, target)
    theirs = getattr(peer, name)(**arguments)(scores, target)
    assert_as_the_original(ours, theirs)


def test_loss_modules_take_the_originals_own_arguments():
    scores, target = batch()
    for module in (
        gibbsian.SparsemaxLoss(5),
        gibbsian.Entmax15Loss(5),
        gibbsian.EntmaxBisectLoss(1.5, 30),
        gibbsian.SparsemaxBisectLoss(30),
    ):
        assert module(scores, target) >= 0
    learned = gibbsian.EntmaxBisectLoss(alpha=nn.Parameter(torch.tensor(1.5)))
    learned(scores.float(), target).backward()
    assert learned.alpha.grad.isfinite()


@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_ignored_targets_count_nowhere(ignore_index):
    scores, target = batch(5, 4)
    target[:] = 1
    target[[1, 3]] = ignore_index
    scores.requires_grad_()
    kept = [0, 2, 4]
    losses = gibbsian.entmax15_loss(scores, target, ignore_index=ignore_index)
    assert losses[[1, 3]].tolist() == [0.0, 0.0]
    (grad,) = torch.autograd.grad(losses.sum(), scores)
    assert (grad[[1, 3]] == 0).all()
    broken = scores.detach().clone()
    broken[3] = torch.nan
    broken.requires_grad_()
    losses = gibbsian.entmax15_loss(broken, target, ignore_index=ignore_index)
    assert torch.equal(torch.autograd.grad(losses.sum(), broken)[0], grad)
    mean = gibbsian.Entmax15Loss(ignore_index=ignore_index)(scores, target)
    assert_identity(mean, gibbsian.entmax15_loss(scores[kept], target[kept]).mean())
    nothing = gibbsian.Entmax15Loss(ignore_index=ignore_index)(
        scores, torch.full((5,), ignore_index)
    )
    assert nothing == 0  # the original, and torch's cross entropy, give NaN


def test_any_number_of_batch_dimensions_and_half_precision():
    scores = torch.randn(2, 3, 7)
    target = torch.randint(7, (2, 3))
    losses = gibbsian.sparsemax_loss(scores, target)
    assert losses.shape == (2, 3)
    flat = gibbsian.sparsemax_loss(scores.flatten(0, 1), target.flatten())
    assert torch.equal(losses.flatten(), flat)
    half = gibbsian.sparsemax_loss(scores.bfloat16(), target)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, gibbsian.sparsemax_loss(scores.bfloat16().float(), target).bfloat16())


def test_loss_of_each_rows_alpha_and_its_gradient():
    scores, target = batch(3, 40, torch.float32)
    scores = scores * 0.1
    alphas = torch.tensor([[1.0], [1.3], [2.0]], requires_grad=True)
    losses = gibbsian.entmax_bisect_loss(scores, target, alphas)
    (grad,) = torch.autograd.grad(losses.sum(), alphas)
    h = 1e-6
    for i, zeta in enumerate([0.0, float(torch.tensor(1.3)) - 1, 1.0]):
        row = scores[i].numpy()
        expected = oracle.potential(row, zeta) - float(scores[i, target[i]])
        assert abs(float(losses[i].detach()) - expected) < ENTROPY_ERROR
        step = -h if zeta == 1 else h
        slope = (oracle.potential(row, zeta + step) - oracle.potential(row, zeta)) / step
        assert abs(float(grad[i]) / slope - 1) < ENTMAX_ALPHA_GRADIENT_ERROR


def test_wrong_arguments_are_named():
    scores, target = batch(2, 3)
    with pytest.raises(ArgumentError, match=r"`target` must be int64 .*got torch.int32"):
        fenchel_young_loss(scores, target.int(), 0.5)
    with pytest.raises(ArgumentError, match=r"`target` must have the shape .*\(2, 3\).*got \(3,\)"):
        fenchel_young_loss(scores, torch.zeros(3, dtype=torch.int64), 0.5)
    with pytest.raises(ArgumentError, match=r"`reduction` must be one of .*, got 'mean'"):
        gibbsian.SparsemaxLoss(reduction="mean")
