"""Drop-in names: parity with the entmax package where it is right, the truth where it is not."""

import inspect

import entmax as peer
import numpy as np
import pytest
import torch
from torch import nn

import gibbsian
from gibbsian._errors import ArgumentError
from tests.oracles import entmax as oracle
from tests.tolerances import (
    ENTMAX_ALPHA_GRADIENT_ERROR,
    ENTMAX_PROBABILITY_ERROR,
    assert_as_the_original,
    assert_gradients,
    assert_identity,
    assert_same,
)

FUNCTIONS = ["sparsemax", "entmax15", "entmax_bisect", "sparsemax_bisect"]
MODULES = ["Sparsemax", "Entmax15", "EntmaxBisect", "SparsemaxBisect"]
LOSSES = ["sparsemax_loss", "entmax15_loss", "entmax_bisect_loss", "sparsemax_bisect_loss"]
LOSS_MODULES = ["SparsemaxLoss", "Entmax15Loss", "EntmaxBisectLoss", "SparsemaxBisectLoss"]


@pytest.mark.parametrize("name", [*FUNCTIONS, *MODULES, *LOSSES, *LOSS_MODULES])
def test_names_arguments_and_defaults_are_the_originals(name):
    def parameters(function):
        if inspect.isclass(function):
            function = function.__init__
        return [
            (p.name, p.default)
            for p in inspect.signature(function).parameters.values()
            if p.name != "self"
        ]

    ours, theirs = parameters(getattr(gibbsian, name)), parameters(getattr(peer, name))
    assert ours[: len(theirs)] == theirs
    assert [extra for extra, _ in ours[len(theirs) :]] in ([], ["ignore_index"])
    assert name in gibbsian.__all__


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dim", [-1, 0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_values_and_gradients_equal_the_originals(name, dim, scale):
    scores = (torch.randn(7, 30, dtype=torch.float64) * scale).requires_grad_()
    weights = torch.randn(7, 30, dtype=torch.float64)
    results = []
    for package in (gibbsian, peer):
        probs = getattr(package, name)(scores, dim=dim)
        results.append((probs, *torch.autograd.grad((probs * weights).sum(), scores)))
    for ours, theirs in zip(*results, strict=True):
        assert_as_the_original(ours, theirs)


@pytest.mark.parametrize("alpha", [1.05, 1.3, 1.5, 1.9, 2.0])
def test_gradients_in_alpha_equal_the_originals_away_from_one(alpha):
    scores = torch.randn(4, 12, dtype=torch.float64)
    weights = torch.randn(4, 12, dtype=torch.float64)
    results = []
    for package in (gibbsian, peer):
        alphas = torch.full((4, 1), alpha, dtype=torch.float64, requires_grad=True)
        probs = package.entmax_bisect(scores, alphas)
        results.append(torch.autograd.grad((probs * weights).sum(), alphas)[0])
    assert_as_the_original(*results)


@pytest.mark.parametrize(
    ("module", "arguments", "function"),
    [
        ("Sparsemax", {"dim": 0, "k": 3}, lambda x: peer.sparsemax(x, dim=0)),
        ("Entmax15", {"dim": 0, "k": 3}, lambda x: peer.entmax15(x, dim=0)),
        (
            "EntmaxBisect",
            {"alpha": 1.7, "dim": 0, "n_iter": 30},
            lambda x: peer.entmax_bisect(x, 1.7, 0),
        ),
        ("SparsemaxBisect", {"dim": 0, "n_iter": 30}, lambda x: peer.sparsemax(x, dim=0)),
    ],
)
def test_modules(module, arguments, function):
    scores = torch.randn(9, 4, dtype=torch.float64)
    ours = getattr(gibbsian, module)(**arguments)
    assert_as_the_original(ours(scores), function(scores))


def test_arguments_that_steer_the_approximation_change_nothing():
    scores = torch.randn(5, 40)
    exact = gibbsian.entmax_bisect(scores, 1.3)
    assert torch.equal(gibbsian.entmax_bisect(scores, 1.3, -1, 1, False), exact)
    assert torch.equal(gibbsian.sparsemax(scores, -1, 2), gibbsian.sparsemax(scores))
    assert torch.equal(gibbsian.entmax15(scores, -1, 2), gibbsian.entmax15(scores))


def test_alpha_of_each_row_and_as_a_learned_parameter():
    scores = torch.randn(3, 6, dtype=torch.float64)
    alphas = torch.tensor([[1.0], [1.4], [2.0]], dtype=torch.float64)
    probs = gibbsian.entmax_bisect(scores, alphas)
    for row, alpha, p in zip(scores, alphas, probs, strict=True):
        assert_identity(p, torch.from_numpy(oracle.probabilities(row.numpy(), float(alpha) - 1)))
    assert_gradients(gibbsian.entmax_bisect, (scores, alphas.clamp(1.1, 1.9)), second_order=True)
    module = gibbsian.EntmaxBisect(alpha=nn.Parameter(torch.tensor(1.5)))
    module(scores.float()).square().sum().backward()
    assert [name for name, _ in module.named_parameters()] == ["alpha"]
    assert module.alpha.grad.isfinite()


def test_where_the_original_is_wrong_alpha_one_is_softmax():
    scores = torch.tensor([0.0, 1.0, 2.0])
    uniform = peer.entmax_bisect(scores, alpha=1.0)
    assert_same(uniform, torch.full((3,), 1 / 3))
    probs = gibbsian.entmax_bisect(scores, alpha=1.0)
    assert_same(probs, scores.softmax(-1))


@pytest.mark.parametrize("alpha", [1.0, 1.0001, 1.01])
def test_where_the_original_is_wrong_gradients_near_alpha_one_in_float32(alpha):
    scores = torch.randn(1000)
    weights = torch.randn(1000)

    def gradient(package):
        at = torch.tensor([alpha], requires_grad=True)
        value = (package.entmax_bisect(scores, at) * weights).sum()
        return float(torch.autograd.grad(value, at)[0])

    zeta = float(torch.tensor(alpha)) - 1
    expected = oracle.zeta_derivative(scores.numpy(), zeta) @ weights.double().numpy()
    assert abs(gradient(gibbsian) / expected - 1) < ENTMAX_ALPHA_GRADIENT_ERROR
    if alpha < 1.01:
        assert not abs(gradient(peer) / expected - 1) < ENTMAX_ALPHA_GRADIENT_ERROR


def test_where_the_original_is_wrong_rows_with_no_state():
    empty = torch.full((2, 3), -torch.inf)
    for name in FUNCTIONS:
        assert (getattr(gibbsian, name)(empty) == 0).all()
    assert peer.entmax_bisect(empty).isnan().all()


@pytest.mark.parametrize("alpha", [1.01, 1.5, 2.0])
def test_where_the_original_is_wrong_offsets_in_float32(alpha):
    scores = torch.randn(50) * 0.3 + 1e5
    expected = oracle.probabilities(scores.numpy(), float(np.float32(alpha)) - 1)
    ours = gibbsian.entmax_bisect(scores, torch.tensor(alpha)).double().numpy()
    assert np.abs(ours - expected).max() < ENTMAX_PROBABILITY_ERROR
    theirs = peer.entmax_bisect(scores, torch.tensor(alpha)).double().numpy()
    assert np.abs(theirs - expected).max() > ENTMAX_PROBABILITY_ERROR


@pytest.mark.parametrize("alpha", [0.9, 2.5, float("nan")])
def test_alpha_out_of_range_is_refused(alpha):
    message = r"`alpha` must lie in \[1, 2\], got"
    with pytest.raises(ArgumentError, match=message):
        gibbsian.entmax_bisect(torch.zeros(3), alpha)
    with pytest.raises(ArgumentError, match=message):
        gibbsian.entmax_bisect_loss(torch.zeros(1, 3), torch.tensor([0]), alpha)
