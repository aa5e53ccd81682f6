"""The fused entmax is `entmax`, in values and derivatives."""

import numpy as np
import pytest
import torch

from gibbsian.normalizers import entmax
from gibbsian.normalizers.fused import fused_entmax
from gibbsian.numerics import row_chunks
from tests.oracles.entmax import probabilities
from tests.tolerances import (
    ENTMAX_PROBABILITY_ERROR,
    assert_gradients,
    assert_identity,
    assert_same,
)

ZETAS = (0.0, 1e-8, 1e-4, 0.1, 0.5, 0.9, 1.0)


def rows(spread, *, states=40, dtype=torch.float64):
    """One row for each sparsity; a flat, a tied, an absent one and one of a single state last."""
    scores = torch.randn(len(ZETAS) + 4, states, dtype=dtype) * spread
    scores[:, 3] = -torch.inf
    scores[-4] = 0.2
    scores[-3] = scores[-3].round()
    scores[-2] = -torch.inf
    scores[-1, 1:] = -torch.inf
    return scores, torch.tensor([*ZETAS, 0.7, 0.7, 0.7, 0.7], dtype=dtype).unsqueeze(-1)


@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0, 5.0, 1e4])
@pytest.mark.parametrize("elements", [100, 1 << 18])
def test_values_and_gradients(monkeypatch, spread, elements):
    monkeypatch.setattr(row_chunks, "_ELEMENTS", elements)
    scores, zeta = (t.requires_grad_() for t in rows(spread))
    fused, expected = fused_entmax(scores, zeta), entmax(scores, zeta)
    assert_identity(fused, expected)
    cotangent = torch.randn_like(scores)
    for one, other in zip(
        torch.autograd.grad(fused, (scores, zeta), cotangent, retain_graph=True),
        torch.autograd.grad(expected, (scores, zeta), cotangent),
        strict=True,
    ):
        assert_identity(one, other, scale=max(1.0, other.abs().max().item()))
    # without a gradient in zeta, what is kept is another
    (alone,) = torch.autograd.grad(fused_entmax(scores, zeta.detach()), scores, cotangent)
    (both,) = torch.autograd.grad(fused, scores, cotangent)
    assert torch.equal(alone, both)


@pytest.mark.parametrize("spread", [0.01, 1.0, 5.0])
@pytest.mark.parametrize("states", [1, 63, 4000])
def test_float32_against_the_oracle(spread, states):
    scores = torch.randn(len(ZETAS), states) * spread
    fused = fused_entmax(scores, torch.tensor(ZETAS).unsqueeze(-1))
    for row, zeta, x in zip(fused, ZETAS, scores, strict=True):
        error = np.abs(row.double().numpy() - probabilities(x.numpy(), zeta)).max()
        assert error <= ENTMAX_PROBABILITY_ERROR
        assert abs(float(row.double().sum()) - 1) <= ENTMAX_PROBABILITY_ERROR


@pytest.mark.parametrize("learn_zeta", [False, True])
def test_gradients_to_second_order(learn_zeta):
    # well inside the support, or well outside: finite differences may not cross its edge
    scores = torch.tensor([[0.3, -0.2, 0.5, -4.0], [0.1, 0.4, 0.0, -0.3]])
    zeta = torch.tensor([[0.6], [0.2]])
    if learn_zeta:
        assert_gradients(fused_entmax, (scores, zeta), second_order=True)
    else:
        assert_gradients(lambda x: fused_entmax(x, zeta.double()), (scores,), second_order=True)


def test_infinite_gradients_off_the_support_do_not_count():
    scores = torch.tensor([[0.0, -0.1, -3.0]], requires_grad=True)
    fused = fused_entmax(scores, torch.ones(1, 1))
    assert fused[0, 2] == 0
    for differentiable in (False, True):
        (gradient,) = torch.autograd.grad(
            fused,
            scores,
            torch.tensor([[1.0, 2.0, -torch.inf]]),
            retain_graph=True,
            create_graph=differentiable,
        )
        assert_same(gradient, torch.tensor([[-0.5, 0.5, 0.0]]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_score_stays_in_its_row(bad):
    scores, zeta = rows(2.0)
    expected = fused_entmax(scores, zeta)
    scores[4, 7] = bad
    fused = fused_entmax(scores, zeta)
    assert fused[4].isnan().all()
    others = [i for i in range(len(scores)) if i != 4]
    assert_identity(fused[others], expected[others])


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_a_sparsity_out_of_range_stays_in_its_row(bad):
    scores, zeta = rows(2.0)
    expected = fused_entmax(scores, zeta)
    zeta[4] = bad
    fused = fused_entmax(scores, zeta)
    assert fused[4].isnan().all()
    assert torch.equal(fused[5], expected[5])


def test_no_states():
    assert fused_entmax(torch.empty(2, 3, 0), torch.zeros(2, 3, 1)).shape == (2, 3, 0)


def test_vmap():
    scores, zeta = rows(2.0)
    expected = fused_entmax(scores, zeta)
    assert_identity(torch.func.vmap(fused_entmax)(scores, zeta), expected)
    shared = torch.func.vmap(fused_entmax, in_dims=(0, None))(scores, zeta[3])
    assert_identity(shared, fused_entmax(scores, zeta[3].expand(len(scores), 1)))
