"""Derivatives of entmax: both arguments, both modes, both orders, under transforms."""

import pytest
import torch

from gibbsian import entmax
from tests.oracles import entmax as oracle
from tests.tolerances import assert_gradients, assert_identity, assert_slope

SCORES = torch.tensor(
    [[0.3, -1.2, 0.9, 2.2, 0.4], [-0.4, 0.1, 1.0, 0.5, 0.2], [3.0, 0.0, -0.1, 0.6, -2.0]],
    dtype=torch.float64,
)
SPARSITY = torch.tensor([[0.05], [0.4], [0.9]], dtype=torch.float64)


def test_first_and_second_derivatives_in_scores_and_sparsity():
    assert_gradients(entmax, (SCORES, SPARSITY), second_order=True)


@pytest.mark.parametrize("zeta", [0.0, 1e-9, 1.0])
def test_first_and_second_derivatives_in_the_scores_at_the_ends(zeta):
    assert_gradients(lambda x: entmax(x, zeta), (SCORES,), second_order=True)


def test_derivatives_with_masks_and_another_dimension():
    mask = torch.tensor([[True] * 5, [True, False, True, True, False], [False] * 5])
    assert_gradients(
        lambda x, z: entmax(x.T, z.T, mask=mask.T, dim=0), (SCORES, SPARSITY), second_order=True
    )


def test_forward_mode_and_forward_over_reverse():
    inputs = (SCORES.clone().requires_grad_(), SPARSITY.clone().requires_grad_())
    assert torch.autograd.gradcheck(entmax, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(entmax, inputs, check_fwd_over_rev=True)


def test_derivative_in_sparsity_at_zero_from_the_right():
    """p (<L^2> - L^2)/2 with L = log p."""
    zeta = torch.zeros(3, 1, dtype=torch.float64)
    _, response = torch.func.jvp(lambda z: entmax(SCORES, z), (zeta,), (torch.ones_like(zeta),))
    p = SCORES.softmax(-1)
    square = p.log() ** 2
    assert_identity(response, p * ((p * square).sum(-1, keepdim=True) - square) / 2)


@pytest.mark.parametrize("start", [0.0, 1e-12, 1e-8, 1e-4])
def test_second_derivative_in_sparsity_near_zero(start):
    """Right-sided finite differences of the oracle's first derivative."""
    row = SCORES[0]
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.1], dtype=torch.float64)
    zeta = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad((entmax(row, zeta) * weights).sum(), zeta, create_graph=True)
    (second,) = torch.autograd.grad(first, zeta)
    h = 1e-5
    at = [
        torch.from_numpy(oracle.zeta_derivative(row.numpy(), start + k * h)).dot(weights)
        for k in range(3)
    ]
    expected = (-3 * at[0] + 4 * at[1] - at[2]) / (2 * h)
    assert_slope(second[0], expected)


def test_vmap_over_rows_and_sparsities():
    assert_identity(torch.func.vmap(entmax)(SCORES, SPARSITY), entmax(SCORES, SPARSITY))
    shared = torch.func.vmap(entmax, in_dims=(0, None))(SCORES, SPARSITY[1])
    assert_identity(shared, entmax(SCORES, 0.4))
    swept = torch.func.vmap(entmax, in_dims=(None, 0))(SCORES[0], SPARSITY)
    assert_identity(swept, entmax(SCORES[:1].expand(3, 5), SPARSITY))
    nested = torch.func.vmap(torch.func.vmap(lambda x: entmax(x, 0.4)))(SCORES.view(3, 1, 5))
    assert_identity(nested.squeeze(1), entmax(SCORES, 0.4))


def test_jacobians_and_hessians_under_vmap():
    def jacobian(x, z):
        return torch.func.jacrev(entmax)(x, z), torch.func.jacfwd(entmax)(x, z)

    reverse, forward = torch.func.vmap(jacobian)(SCORES, SPARSITY)
    assert_identity(reverse, forward)
    p = entmax(SCORES, SPARSITY)
    s = torch.where(p > 0, p ** (1 - SPARSITY), 0.0)
    q = s / s.sum(-1, keepdim=True)
    assert_identity(reverse, torch.diag_embed(s) - s.unsqueeze(-1) * q.unsqueeze(-2))

    def energy(x):
        return (entmax(x, 0.4) * torch.arange(5.0, dtype=torch.float64)).sum()

    hessian = torch.func.vmap(torch.func.hessian(energy))(SCORES)
    assert_identity(hessian, hessian.mT)
    row = SCORES[0].clone().requires_grad_()
    assert_identity(hessian[0], torch.autograd.functional.hessian(energy, row))


def test_no_gradient_flows_to_or_from_states_off_the_support():
    scores = torch.tensor([2.0, 1.9, -5.0], requires_grad=True)
    probs = entmax(scores, 1.0)
    assert probs[2] == 0
    # the entropy's slope is infinite at p = 0
    entropy = torch.special.entr(probs).sum()
    (grad,) = torch.autograd.grad(entropy, scores)
    assert grad.isfinite().all()
    assert grad[2] == 0
    _, tangent = torch.func.jvp(
        lambda x: entmax(x, 1.0),
        (scores.detach(),),
        (torch.tensor([1.0, 0.0, torch.inf]),),
    )
    assert torch.equal(tangent, torch.tensor([0.5, -0.5, 0.0]))


def test_only_what_needs_a_gradient_gets_one():
    scores, zeta = torch.randn(2, 4), torch.full((2, 1), 0.5, requires_grad=True)
    entmax(scores, zeta).square().sum().backward()
    assert scores.grad is None
    assert zeta.grad.shape == (2, 1)
    assert not entmax(scores, 0.5).requires_grad


def test_a_shared_sparsity_collects_the_gradients_of_its_rows():
    zeta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (total,) = torch.autograd.grad(entmax(SCORES, zeta).square().sum(), zeta)
    rows = SPARSITY.clone().fill_(0.4).requires_grad_()
    (each,) = torch.autograd.grad(entmax(SCORES, rows).square().sum(), rows)
    assert_identity(total, each.sum())
