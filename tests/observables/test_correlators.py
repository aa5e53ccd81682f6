"""Correlators against derivatives in mpmath and automatic differentiation of the potential."""

import pytest
import torch

from gibbsian import entmax
from gibbsian._errors import ArgumentError
from gibbsian.normalizers import potential
from gibbsian.observables.correlators import (
    _response,
    connected_correlator,
    correlator,
    value_correlator,
)
from tests.oracles import correlators as oracle
from tests.tolerances import assert_gradients, assert_identity, assert_same

ZETAS = [0.0, 1e-6, 0.2, 1 / 3, 0.5, 0.7, 1.0]


def row(states=7):
    """Scores whose support is not all states for large sparsities, and four observables."""
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(states, generator=generator, dtype=torch.float64)
    return scores, torch.randn(4, states, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("zeta", ZETAS)
def test_connected_functions_against_mpmath(zeta, order):
    scores, observables = row()
    assert zeta < 0.7 or (entmax(scores, zeta) == 0).any()
    found = connected_correlator(scores, *observables[:order], zeta=zeta)
    assert_identity(found, oracle.connected(scores, observables[:order], zeta))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_moments_against_mpmath(order):
    scores, observables = row()
    found = correlator(scores, *observables[:order])
    assert_identity(found, oracle.moment(scores, observables[:order]))


@pytest.mark.parametrize("zeta", ZETAS)
def test_cumulants_are_derivatives_of_the_potential(zeta):
    scores, observables = row()
    source = torch.zeros((), dtype=torch.float64, requires_grad=True)
    derivative = potential(scores + source * observables[0], zeta)
    # entmax is differentiable twice, the potential thus three times
    for order in range(1, 4):
        (derivative,) = torch.autograd.grad(derivative, source, create_graph=True)
        found = connected_correlator(scores, *[observables[0]] * order, zeta=zeta)
        assert_identity(derivative, found)


def test_fourth_cumulant_by_automatic_differentiation_of_log_z():
    scores, observables = row()
    source = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    derivative = torch.logsumexp(scores + (source[:, None] * observables).sum(dim=0), dim=-1)
    for order in range(4):
        gradient = torch.autograd.grad(derivative, source, create_graph=True)[0]
        derivative = gradient[order]
    assert_identity(connected_correlator(scores, *observables), derivative)


def test_connected_functions_are_cumulants_of_moments():
    scores, observables = row()
    a, b = observables[:2]
    covariance = correlator(scores, a, b) - correlator(scores, a) * correlator(scores, b)
    assert_identity(connected_correlator(scores, a, b), covariance)
    m = [correlator(scores, *[a] * n) for n in range(1, 5)]
    fourth = m[3] - 4 * m[2] * m[0] - 3 * m[1] ** 2 + 12 * m[1] * m[0] ** 2 - 6 * m[0] ** 4
    assert_identity(connected_correlator(scores, a, a, a, a), fourth)


def test_order_of_the_observables_does_not_matter():
    scores, observables = row()
    for zeta in (0.0, 0.3):
        first = connected_correlator(scores, *observables, zeta=zeta)
        assert_identity(connected_correlator(scores, *observables.flip(0), zeta=zeta), first)


@pytest.mark.parametrize(("zeta", "order", "jumps"), [
    (1.0, 2, True), (0.6, 2, False), (0.5, 3, True), (0.4, 3, False), (1 / 3, 4, True),
    (0.25, 4, False),
])  # fmt: skip
def test_continuity_where_a_state_enters_the_support(zeta, order, jumps):
    """Two states and a third at its border: exactly where p_3 turns positive."""
    edge = -(2.0**-zeta) / zeta
    observable = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)

    def around(shift):
        scores = torch.tensor([0.0, 0.0, edge + shift], dtype=torch.float64)
        return connected_correlator(scores, *[observable] * order, zeta=zeta)

    below, near, far = around(-1e-9), around(1e-9), around(1e-6)
    if jumps:
        assert (near - below).abs() > 0.1
        assert (near - far).abs() < 0.1 * (near - below).abs()
    else:
        assert (near - below).abs() < (far - below).abs()
        assert (far - below).abs() < 0.3


def test_above_that_sparsity_the_derivative_has_no_limit():
    observable = torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64)
    values = []
    for shift in (1e-4, 1e-6, 1e-8):
        scores = torch.tensor([0.0, 0.0, shift - 2.0**-0.75 / 0.75], dtype=torch.float64)
        values.append(connected_correlator(scores, *[observable] * 3, zeta=0.75).abs())
    assert values[2] > 10 * values[1] > 100 * values[0] * 0.1
    scores = torch.tensor([0.0, 0.0, -5.0], dtype=torch.float64)
    assert connected_correlator(scores, *[observable] * 4, zeta=1.0) == 0


def test_a_vanishing_response_does_not_meet_an_overflow():
    weights = torch.tensor([1e-30, 1.0])
    for zeta, order in ((1.0, 3), (1.0, 2), (0.5, 3)):
        assert (_response(weights, torch.tensor(zeta), order) == 0).all()


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
def test_values_respond_as_the_hessian_of_the_potential(zeta):
    scores, observables = row()
    values = observables.T

    def output(source):
        return potential(scores + values @ source, zeta)

    source = torch.zeros(4, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(output, source)
    assert_identity(value_correlator(scores, values, zeta=zeta), hessian)
    pairs = [[connected_correlator(scores, a, b, zeta=zeta) for a in values.T] for b in values.T]
    assert_identity(value_correlator(scores, values, zeta=zeta), torch.tensor(pairs).double())


def test_batches_masks_and_a_sparsity_for_each_row():
    scores = torch.randn(3, 5, 9, dtype=torch.float64)
    observable, values = torch.randn(3, 1, 9).double(), torch.randn(3, 1, 9, 2).double()
    zeta = torch.rand(3, 5, 1, dtype=torch.float64)
    mask = torch.rand(3, 5, 9) > 0.3
    mask[0, 0] = False
    found = [
        connected_correlator(scores, *[observable] * n, zeta=zeta, mask=mask) for n in (1, 2, 3, 4)
    ]
    moments = correlator(scores, observable, observable, mask=mask)
    matrix = value_correlator(scores, values, zeta=zeta, mask=mask)
    for i in [(0, 1), (1, 4), (2, 2)]:
        kept, z = mask[i], float(zeta[i])
        alone, a = scores[i][kept], observable[i[0], 0][kept]
        for order, batched in enumerate(found, start=1):
            assert_identity(batched[i], connected_correlator(alone, *[a] * order, zeta=z))
        assert_identity(moments[i], correlator(alone, a, a))
        assert_identity(matrix[i], value_correlator(alone, values[i[0], 0][kept], zeta=z))
    for result in (*found, moments, matrix):
        assert (result[0, 0] == 0).all()


def test_what_is_absent_may_hold_anything():
    scores, observables = row()
    with_nan = observables.clone()
    with_nan[:, 2] = float("nan")
    mask = torch.arange(7) != 2
    for order in (1, 2, 3, 4):
        found = connected_correlator(scores, *with_nan[:order], mask=mask)
        assert_same(found, connected_correlator(scores, *observables[:order], mask=mask))
    assert correlator(scores, with_nan[0], mask=mask).isfinite()
    assert value_correlator(scores, with_nan.T, mask=mask).isfinite().all()


def test_gradients_in_scores_and_observables():
    scores, observables = row(5)

    def fourth(x, a, zeta):
        return connected_correlator(x, a, a, a, a, zeta=zeta)

    zeta = torch.tensor([0.2])
    assert_gradients(fourth, (scores, observables[0], zeta))


def test_half_precision_is_computed_wide():
    scores, observables = row()
    found = connected_correlator(scores.half(), observables[0].half(), observables[1].half())
    assert found.dtype == torch.float32


def test_observables_are_checked():
    scores, observables = row()
    for function in (correlator, connected_correlator):
        with pytest.raises(ArgumentError, match="`observables` must be at least one"):
            function(scores)
        with pytest.raises(ArgumentError, match=r"`observables` must broadcast to `scores` \(7,\)"):
            function(scores, torch.rand(3))
    with pytest.raises(ArgumentError, match="`observables` must be at most 4, got 5"):
        connected_correlator(scores, *[observables[0]] * 5)


def test_autocast_changes_no_correlator_of_values():
    scores, values = torch.randn(3, 7), torch.randn(3, 7, 5)
    plain = value_correlator(scores, values, zeta=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(value_correlator(scores, values, zeta=0.2), plain)
