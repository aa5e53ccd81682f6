"""Why varentropy decides whether sparsity matters: dS_zeta/dzeta = -S V + kappa_3/2 at zeta = 0."""

import pytest
import torch

from gibbsian import entmax, gibbs_statistics
from tests.oracles import entmax as oracle
from tests.tolerances import FIRST_ORDER_REMAINDER, assert_identity, assert_slope


@pytest.mark.parametrize("n", [10, 100, 1000])
@pytest.mark.parametrize("std", [0.3, 1.0, 3.0])
def test_susceptibility_matches_finite_differences_of_the_oracle(n, std):
    scores = torch.randn(n, dtype=torch.float64) * std
    h = 1e-4
    entropies = [
        oracle.shannon_entropy(oracle.probabilities(scores.numpy(), k * h)) for k in range(5)
    ]
    # fourth-order one-sided difference
    weights = (-25, 48, -36, 16, -3)
    slope = sum(w * s for w, s in zip(weights, entropies, strict=True)) / (12 * h)
    assert_slope(gibbs_statistics(scores).susceptibility, -slope)


@pytest.mark.parametrize("std", [1e-3, 1.0, 10.0])
def test_susceptibility_matches_autograd_through_entmax(std):
    scores = torch.randn(8, 50, dtype=torch.float64) * std
    zeta = torch.zeros(8, 1, dtype=torch.float64, requires_grad=True)
    entropy = torch.special.entr(entmax(scores, zeta)).sum()
    (slope,) = torch.autograd.grad(entropy, zeta)
    assert_identity(-slope.squeeze(-1), gibbs_statistics(scores).susceptibility)


def test_rows_of_zero_varentropy_do_not_respond():
    flat = torch.zeros(3, 6, dtype=torch.float64)
    collapsed = torch.tensor([[0.0, 0.0, -2000.0]], dtype=torch.float64)
    for scores in (flat, collapsed):
        assert_identity(gibbs_statistics(scores).susceptibility, 0.0)
        for zeta in (0.3, 1.0):
            assert_identity(entmax(scores, zeta), scores.softmax(-1))


def test_effective_support_to_first_order_in_sparsity():
    scores = torch.randn(40, dtype=torch.float64)
    s = gibbs_statistics(scores)
    zeta = 1e-5
    actual = torch.special.entr(entmax(scores, zeta)).sum().exp()
    first_order = (s.entropy - zeta * s.susceptibility).exp()
    zeroth_order = s.entropy.exp()
    assert (actual - first_order).abs() < FIRST_ORDER_REMAINDER * (actual - zeroth_order).abs()
