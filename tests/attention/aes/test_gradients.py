"""Gradients through p, zeta, S and V: written out in docs/derivations/aes.md#gradients."""

import pytest
import torch

from gibbsian.attention import aes_attention
from gibbsian.normalizers import Linear, Response, SmoothStep, VarentropyBounds, entmax
from gibbsian.statistics import gibbs_statistics
from tests.attention.cases import inputs, leaves
from tests.tolerances import assert_gradients, assert_identity

SCHEDULES = {
    "entropy": SmoothStep(low=0.1, high=0.98),
    "mirrored": SmoothStep(low=0.1, high=0.98, direction="concentrate_high"),
    "varentropy": SmoothStep(low=0.1, high=0.98, bounds=VarentropyBounds(lambda_high=0.3)),
    "third cumulant": Response(budget=0.1),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def check(name, *, second_order, **shape):
    query, key, value = inputs(batch=1, head_dim=3, value_dim=2, **shape)
    mask = torch.ones(shape["queries"], shape["keys"], dtype=torch.bool)
    mask[0, 1] = False

    def output(query, key, value):
        return aes_attention(query, key, value, schedule=SCHEDULES[name], mask=mask)

    assert_gradients(output, (query, key, value), second_order=second_order)


@every_schedule
def test_exact(name):
    check(name, second_order=False, heads=2, queries=3, keys=5)


@pytest.mark.parametrize("name", ["varentropy", "third cumulant"])
def test_exact_to_second_order(name):
    check(name, second_order=True, heads=1, queries=1, keys=4)


@every_schedule
def test_detached_gradients_are_those_at_a_constant_zeta(name):
    tensors = leaves(*inputs(dtype=torch.float64))
    output, statistics = aes_attention(
        *tensors, schedule=SCHEDULES[name], detach_statistics=True, return_statistics=True
    )
    cotangent = torch.randn_like(output)
    query, key, value = tensors
    weights = entmax(query @ key.mT * 8**-0.5, statistics.zeta.unsqueeze(-1))
    detached = torch.autograd.grad(output, tensors, cotangent)
    constant = torch.autograd.grad(weights @ value, tensors, cotangent)
    for one, other in zip(detached, constant, strict=True):
        assert_identity(one, other)
    exact = torch.autograd.grad(
        aes_attention(*tensors, schedule=SCHEDULES[name]), tensors, cotangent
    )
    assert not torch.allclose(exact[0], detached[0])


def test_detached_backward_is_sparse():
    """A key that gets no weight gets no gradient; through S and V it would."""
    query, key, value = inputs(batch=1, heads=1, queries=1, keys=9, dtype=torch.float64)
    schedule = Linear(low=0.2, high=1.0)
    key_gradients = {}
    for detach in (True, False):
        tensors = leaves(3 * torch.ones_like(query), key, value)
        output, statistics = aes_attention(
            *tensors, schedule=schedule, detach_statistics=detach, return_statistics=True
        )
        output.square().sum().backward()
        key_gradients[detach] = tensors[1].grad.abs().amax(dim=-1)
    support = int(statistics.support_size)
    assert 0 < support < 9
    assert (key_gradients[True] > 0).sum() == support
    assert (key_gradients[False] > 0).sum() == 9


def test_gradients_of_entropy_and_varentropy_as_written():
    scores = torch.randn(6, 9, dtype=torch.float64, requires_grad=True)
    statistics = gibbs_statistics(scores)
    probs = scores.detach().softmax(dim=-1)
    deviation = probs.log() + statistics.entropy.detach().unsqueeze(-1)
    varentropy = statistics.varentropy.detach().unsqueeze(-1)
    kappa = statistics.third_cumulant.detach().unsqueeze(-1)
    written = {
        "entropy": -probs * deviation,
        "varentropy": probs * (deviation**2 + 2 * deviation - varentropy),
        "third_cumulant": probs
        * (deviation**3 + 3 * deviation**2 - 3 * varentropy * (1 + deviation) - kappa),
    }
    for name, expected in written.items():
        (actual,) = torch.autograd.grad(getattr(statistics, name).sum(), scores, retain_graph=True)
        assert_identity(actual, expected)


def test_gradient_of_the_row_as_written():
    """The chain rule of the page: the term through p and the term through zeta(S, V)."""
    query, key, value = inputs(batch=1, heads=1, queries=1, keys=6, dtype=torch.float64)
    value = value[..., :1]
    schedule = Linear(low=0.05, high=0.999, bounds=VarentropyBounds(varentropy_scale=0.5))
    scores = (query @ key.mT * 8**-0.5).detach().requires_grad_()
    statistics = gibbs_statistics(scores)
    zeta = schedule(statistics)
    by_entropy, by_varentropy = torch.autograd.grad(
        zeta, (statistics.entropy, statistics.varentropy)
    )
    statistics, zeta = statistics.detach(), zeta.detach()
    probs = scores.detach().softmax(dim=-1)
    deviation = probs.log() + statistics.entropy
    varentropy = statistics.varentropy
    zeta_gradient = by_entropy * -probs * deviation + by_varentropy * probs * (
        deviation**2 + 2 * deviation - varentropy
    )
    weights = entmax(scores.detach(), zeta.unsqueeze(-1))
    assert (weights > 0).all()
    response = weights ** (1 - zeta)
    escort = response / response.sum()
    logs = weights.log()
    by_zeta = (weights - escort) / zeta**2 - (
        weights * logs - escort * (weights * logs).sum()
    ) / zeta
    v = value.squeeze(-1)
    expected = response * (v - (escort * v).sum()) + (by_zeta * v).sum() * zeta_gradient

    tensors = leaves(scores.detach(), torch.eye(6, dtype=torch.float64)[None, None], value)
    # scores themselves: queries against unit keys
    aes_attention(*tensors, schedule=schedule, scale=1.0).sum().backward()
    assert_identity(tensors[0].grad, expected)
