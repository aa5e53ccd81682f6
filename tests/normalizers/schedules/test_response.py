import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian.normalizers import Response, entmax, entropy_response
from gibbsian.statistics import gibbs_statistics
from tests.normalizers.schedules.cases import rows
from tests.oracles import schedules as oracle
from tests.tolerances import IDENTITY, RESPONSE_BUDGET_ERROR, assert_gradients, assert_identity

GAUSSIAN_ROWS = [(n, std) for n in (16, 64, 1024, 8192) for std in (0.01, 0.1, 0.5, 1.0, 2.0)]


def gaussian(n, std, count=8):
    generator = torch.Generator().manual_seed(n)
    return std * torch.randn(count, n, generator=generator, dtype=torch.float64)


def removed(scores, zeta):
    """Nats that entmax takes off the softmax of each row."""
    probs = entmax(scores, zeta.unsqueeze(-1))
    return gibbs_statistics(scores).entropy + torch.xlogy(probs, probs).sum(-1)


@given(st.floats(0.05, 0.95), st.floats(1e-6, 20.0), st.floats(1e-4, 2.0), st.floats(0.1, 1.0))
def test_response_is_the_root_of_its_equation(s, varentropy, budget, zeta_max):
    statistics = rows([s], varentropy)
    expected = oracle.response(
        float(statistics.entropy),
        float(statistics.susceptibility),
        budget=budget,
        zeta_max=zeta_max,
    )
    assert_identity(Response(budget=budget, zeta_max=zeta_max)(statistics), expected)


@given(st.floats(0.0, 1.0), st.floats(0.0, 20.0), st.floats(1e-4, 2.0))
def test_response_inverts_the_prediction(s, varentropy, budget):
    statistics = rows([s], varentropy)
    zeta = Response(budget=budget)(statistics)
    predicted = entropy_response(statistics, zeta)
    assert zeta == 1 or abs(predicted - budget) <= IDENTITY
    assert predicted <= budget + IDENTITY


def test_a_small_budget_is_removed_exactly():
    """Linear response: the relative error falls with the budget."""
    scores = gaussian(50, 1.0)
    statistics = gibbs_statistics(scores)
    errors = []
    for budget in (1e-3, 1e-4, 1e-5):
        zeta = Response(budget=budget)(statistics)
        errors.append((removed(scores, zeta) / budget - 1).abs().max())
    assert errors[1] < errors[0] / 5
    assert errors[2] < errors[1] / 5


@pytest.mark.parametrize(("n", "std"), GAUSSIAN_ROWS)
def test_the_budget_is_removed_from_rows_that_have_it(n, std):
    """From nearly uniform rows (the straight line takes off up to 20 times as much) to sharp."""
    budget = 0.3
    scores = gaussian(n, std)
    zeta = Response(budget=budget)(gibbs_statistics(scores))
    taken = removed(scores, zeta)
    saturated = zeta == 1
    assert (taken[saturated] < budget * (1 + RESPONSE_BUDGET_ERROR)).all()
    if not saturated.all():
        error = taken[~saturated].mean() / budget - 1
        assert abs(error) < RESPONSE_BUDGET_ERROR


def test_nearly_uniform_rows_respond_exponentially():
    """The prediction is exact to second order in the scores, at any zeta."""
    for zeta in (0.1, 0.5, 1.0):
        errors = []
        for std in (1e-3, 1e-4):
            scores = gaussian(20, std)
            taken = removed(scores, torch.full((8,), zeta, dtype=torch.float64))
            predicted = entropy_response(gibbs_statistics(scores), zeta)
            errors.append((taken / predicted - 1).abs().max())
        assert errors[1] < errors[0] / 5 < 1e-3


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8))
def test_susceptibility_is_half_a_covariance_that_is_never_negative(scores):
    """chi = -Cov(log p, log^2 p)/2, of a number <= 0 and its square."""
    x = torch.tensor(scores, dtype=torch.float64)
    log_p = x.log_softmax(-1)
    p = log_p.exp()
    covariance = (p * (log_p - (p * log_p).sum()) * log_p.square()).sum()
    chi = gibbs_statistics(x).susceptibility
    assert_identity(chi, -covariance / 2, scale=1e3)
    assert chi >= -IDENTITY * 1e3


def test_rows_that_do_not_answer_have_zeta_max_and_no_gradient():
    scores = torch.tensor(
        [[1.0, 1.0, 1.0], [0.0, -200.0, -200.0], [0.0, -torch.inf, -torch.inf], [-torch.inf] * 3]
    ).requires_grad_()
    zeta = Response(budget=0.1, zeta_max=0.5)(gibbs_statistics(scores))
    assert zeta.tolist() == [0.5] * 4
    zeta.sum().backward()
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("chi", [-1e-3, 0.0, 1e-30])
def test_a_susceptibility_of_zero_or_below_by_rounding_is_safe(chi):
    statistics = rows([0.5], 0.0, third_cumulant=-2 * chi)
    assert Response(budget=0.1, zeta_max=0.5)(statistics) == 0.5


def test_continuous_where_it_saturates():
    statistics = rows([0.5, 0.5], 0.0, third_cumulant=0.0)
    gain = math.expm1(2 * 0.5 * math.log(50)) / math.log(50)
    chi = torch.tensor([1 - 1e-10, 1 + 1e-10], dtype=torch.float64) / gain
    statistics = rows([0.5, 0.5], 0.0, third_cumulant=-2 * chi)
    below, above = Response(budget=1.0)(statistics)
    assert below == 1.0
    assert 0 < 1.0 - above < IDENTITY


def test_nan_is_not_taken_for_a_row_that_does_not_answer():
    assert Response(budget=0.1)(rows([0.5], torch.nan)).isnan()


def test_gradients_of_the_prediction_are_exact():
    zeta = torch.tensor([0.3, 0.0, 0.9, 0.5], dtype=torch.float64)
    assert_gradients(
        lambda x, z: entropy_response(gibbs_statistics(x), z), [gaussian(6, 1.0, 4), zeta]
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Response(budget=0.0), r"`budget` must be a finite number > 0 \(nats\), got 0.0"),
        (lambda: Response(budget=math.inf), r"`budget` must be a finite number > 0"),
        (lambda: Response(budget=0.1, zeta_max=0.0), r"`zeta_max` must lie in \(0, 1\], got 0.0"),
        (lambda: Response(budget=0.1, zeta_max=1.1), r"`zeta_max` must lie in \(0, 1\], got 1.1"),
    ],
)
def test_arguments_out_of_range_name_the_rule(build, message):
    with pytest.raises(ValueError, match=message):
        build()
