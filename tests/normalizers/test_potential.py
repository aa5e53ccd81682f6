"""The potential: value, gradient p, deformed n-point functions."""

import pytest
import torch

from gibbsian import entmax, gibbs_statistics
from gibbsian._errors import ArgumentError
from gibbsian.normalizers import potential
from tests.oracles import entmax as oracle
from tests.tolerances import (
    ENTROPY_ERROR,
    assert_gradients,
    assert_identity,
    assert_slope,
)

ZETAS = [0.0, 1e-8, 1e-4, 0.1, 0.5, 1.0]


@pytest.mark.parametrize("zeta", ZETAS)
def test_value_matches_the_variational_form_and_the_level(zeta):
    scores = torch.randn(30, dtype=torch.float64) * 3
    phi = potential(scores, zeta)
    assert_identity(phi, oracle.potential(scores.numpy(), zeta))
    c = scores.max().item() + oracle.level(scores.numpy(), zeta)
    mean = (entmax(scores, zeta) * scores).sum()
    assert_identity(phi, (c + zeta * mean) / (1 + zeta))


def test_at_zero_it_is_log_z():
    scores = torch.randn(4, 9, dtype=torch.float64)
    assert_identity(potential(scores, 0.0), gibbs_statistics(scores).log_partition)


@pytest.mark.parametrize("zeta", ZETAS)
def test_gradient_is_entmax_itself(zeta):
    scores = torch.randn(5, 20, requires_grad=True)
    (grad,) = torch.autograd.grad(potential(scores, zeta).sum(), scores)
    assert torch.equal(grad, entmax(scores.detach(), zeta))


def test_first_and_second_derivatives_in_both_arguments_and_modes():
    scores = torch.tensor([[0.3, -1.2, 0.9], [2.0, 0.1, -0.1]])
    zeta = torch.tensor([[0.2], [0.6]])
    assert_gradients(potential, (scores, zeta), second_order=True)
    inputs = (scores.double().requires_grad_(), zeta.double().requires_grad_())
    assert torch.autograd.gradcheck(potential, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(potential, inputs, check_fwd_over_rev=True)


def test_derivatives_in_sparsity_at_zero():
    """-(S + <L^2>/2), and its own derivative from finite differences on the right."""
    scores = torch.randn(12, dtype=torch.float64)

    def response(at):
        zeta = torch.tensor([at], dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad(potential(scores, zeta), zeta, create_graph=True)
        return first, torch.autograd.grad(first, zeta)[0]

    first, second = response(0.0)
    log_p = scores.log_softmax(-1)
    p = log_p.exp()
    assert_identity(first[0], (p * (log_p - log_p**2 / 2)).sum())
    h = 1e-5
    at = [response(k * h)[0] for k in range(3)]
    expected = (-3 * at[0] + 4 * at[1] - at[2]) / (2 * h)
    assert_slope(second, expected)


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_deformed_two_point_function(zeta):
    """d^2 Phi/d xi^2 for a source xi coupled to a: sum s a^2 - (sum s a)^2 / sum s."""
    scores = torch.randn(8, dtype=torch.float64)
    a = torch.randn(8, dtype=torch.float64)
    xi = torch.zeros((), dtype=torch.float64)
    second = torch.func.hessian(lambda xi: potential(scores + xi * a, zeta))(xi)
    p = entmax(scores, zeta)
    s = torch.where(p > 0, p ** (1 - zeta), 0.0)
    assert_identity(second, (s * a**2).sum() - (s * a).sum() ** 2 / s.sum())


def test_vmap():
    scores = torch.randn(3, 6, dtype=torch.float64)
    zeta = torch.tensor([[0.0], [0.5], [1.0]], dtype=torch.float64)
    assert_identity(torch.func.vmap(potential)(scores, zeta), potential(scores, zeta))
    hessians = torch.func.vmap(torch.func.hessian(potential))(scores, zeta)
    jacobians = torch.func.vmap(torch.func.jacrev(entmax))(scores, zeta)
    assert_identity(hessians, jacobians)


@pytest.mark.parametrize("zeta", [0.0, 1e-8, 1e-6, 1e-4, 1e-3, 0.01, 0.5, 1.0])
def test_float32_keeps_its_digits_down_to_zero(zeta):
    scores = torch.randn(1000)
    zeta = float(torch.tensor(zeta))
    expected = scores.max().item() + oracle.level(scores.numpy(), zeta)
    mean = oracle.probabilities(scores.numpy(), zeta) @ scores.double().numpy()
    expected = (expected + zeta * mean) / (1 + zeta)
    assert abs(float(potential(scores, zeta)) - expected) < ENTROPY_ERROR


def test_edges():
    scores = torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf]], requires_grad=True)
    zeta = torch.full((2, 1), 0.5, requires_grad=True)
    phi = potential(scores, zeta)
    assert phi.tolist() == [0.0, -torch.inf]
    grads = torch.autograd.grad(phi.sum(), (scores, zeta))
    assert torch.equal(grads[0], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert (grads[1] == 0).all()
    assert potential(torch.zeros(3, 0), 0.5).tolist() == [-torch.inf] * 3
    lowest = torch.tensor([1.0, 1.0, torch.finfo(torch.float32).min])
    assert potential(lowest, 0.0).isfinite()
    mask = torch.tensor([True, False, True])
    row = torch.tensor([0.3, torch.nan, 1.0], dtype=torch.float64)
    assert_identity(potential(row, 0.4, mask=mask), potential(row[mask], 0.4))
    assert potential(row.half(), 0.4, mask=mask).dtype == torch.float32
    assert_identity(
        potential(row.expand(2, 3).T, 0.4, mask=mask.unsqueeze(-1), dim=0)[1],
        potential(row[mask], 0.4),
    )
    with pytest.raises(ArgumentError, match="`zeta` must lie"):
        potential(row, 2.0)
    with pytest.raises(ArgumentError, match="`scores` must be finite"):
        potential(row, 0.5, validate=True)
