"""What every schedule promises, the user's own included."""

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gibbsian.normalizers import (
    Schedule,
    entmax,
    schedule_from_config,
    schedule_to_config,
)
from gibbsian.statistics import gibbs_statistics
from tests.normalizers.schedules.cases import (
    HEADS,
    SCHEDULES,
    SHARED,
    rows,
    unit,
    user_defined,
    varentropies,
)
from tests.tolerances import assert_gradients, assert_same

EVERY = pytest.mark.parametrize("name", SCHEDULES)
CONFIGURABLE = [name for name in SCHEDULES if name != "user_defined"]


def attention_rows(dtype=torch.float64, scale=2.0):
    generator = torch.Generator().manual_seed(1)
    scores = scale * torch.randn(2, HEADS, 5, 6, generator=generator, dtype=torch.float64)
    return scores.to(dtype)


@EVERY
def test_is_a_schedule(name):
    assert isinstance(SCHEDULES[name][0], Schedule)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_one_sparsity_a_row_in_the_dtype_of_the_statistics(name, dtype):
    statistics = gibbs_statistics(attention_rows(dtype))
    zeta = SCHEDULES[name][0](statistics)
    assert zeta.shape == statistics.entropy.shape == (2, HEADS, 5)
    assert zeta.dtype == statistics.entropy.dtype


@pytest.mark.parametrize("name", SHARED)
def test_rows_of_logits_are_rows_like_any_other(name):
    """The same object, the same numbers: attention rows (b, h, q), logits (b,), one row ()."""
    schedule = SCHEDULES[name][0]
    scores = attention_rows()
    zeta = schedule(gibbs_statistics(scores))
    flat = schedule(gibbs_statistics(scores.flatten(0, 2)))
    assert_same(flat, zeta.flatten())
    assert_same(schedule(gibbs_statistics(scores[1, 2, 3])), zeta[1, 2, 3])


@EVERY
def test_a_row_sees_no_other_row(name):
    schedule = SCHEDULES[name][0]
    scores = attention_rows()
    changed = scores.clone()
    changed[0, :, 2] *= 9
    before = schedule(gibbs_statistics(scores))
    after = schedule(gibbs_statistics(changed))
    untouched = torch.ones(2, HEADS, 5, dtype=torch.bool)
    untouched[0, :, 2] = False
    assert_same(after[untouched], before[untouched])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@EVERY
@given(
    entropies=st.lists(unit, min_size=4, max_size=4),
    varentropy=varentropies,
    skewness=st.floats(-1e6, 1e6),
    num_states=st.sampled_from([0, 1, 2, 3, 1000, 1_000_000]),
)
def test_stays_in_range_whatever_the_statistics(
    *, name, dtype, entropies, varentropy, skewness, num_states
):
    schedule, zeta_max = SCHEDULES[name]
    s = torch.tensor(entropies, dtype=dtype).expand(HEADS, 4)
    statistics = rows(s, varentropy, num_states=num_states, third_cumulant=skewness, dtype=dtype)
    zeta = schedule(statistics)
    assert (zeta >= 0).all()
    assert (zeta <= torch.tensor(zeta_max, dtype=dtype)).all()


@EVERY
def test_edge_rows_have_finite_sparsity_and_gradients(name):
    """No state, one state, two equal states, uniform, collapsed, enormous scores."""
    inf = torch.inf
    edge = torch.tensor(
        [
            [-inf, -inf, -inf, -inf],
            [-inf, 3.0, -inf, -inf],
            [-inf, 0.5, 0.5, -inf],
            [1.0, 1.0, 1.0, 1.0],
            [0.0, -200.0, -200.0, -200.0],
            [0.0, -40.0, -40.0, -40.0],
            [1e4, -1e4, 0.0, 1e4],
            [1.0, 1.0, 1.0, 1.0 + 1e-6],
        ]
    )
    scores = edge.expand(1, HEADS, 8, 4).clone().requires_grad_()
    schedule = copy.deepcopy(SCHEDULES[name][0])
    zeta = schedule(gibbs_statistics(scores))
    probs = entmax(scores, zeta.unsqueeze(-1))
    weights = torch.arange(4.0) + 1
    ((probs * weights).sum() + zeta.sum()).backward()
    assert zeta.isfinite().all()
    assert_same(probs.sum(-1), (edge > -inf).any(-1).float().expand(1, HEADS, 8))
    assert scores.grad.isfinite().all()
    assert (scores.grad[..., 0, :] == 0).all()  # the row with no state
    if isinstance(schedule, nn.Module):
        assert all(p.grad.isfinite().all() for p in schedule.parameters() if p.grad is not None)


@EVERY
def test_nan_stays_in_its_row(name):
    scores = attention_rows()
    clean = SCHEDULES[name][0](gibbs_statistics(scores))
    scores[1, 1, 1, 0] = torch.nan
    zeta = SCHEDULES[name][0](gibbs_statistics(scores))
    others = torch.ones_like(zeta, dtype=torch.bool)
    others[1, 1, 1] = False
    assert_same(zeta[others], clean[others])
    assert entmax(scores, zeta.unsqueeze(-1))[1, 1, 1].isnan().all()


@EVERY
def test_gradients_are_exact_through_p_zeta_S_and_V(name):
    schedule = SCHEDULES[name][0]

    def attend(scores):
        zeta = schedule(gibbs_statistics(scores))
        return entmax(scores, zeta.unsqueeze(-1))

    # two rows a head, one of them soft and one sharp: all branches, no kink within 1e-6
    scores = attention_rows()[0, :, :2, :4] * torch.tensor([0.3, 1.0]).unsqueeze(-1)
    assert_gradients(attend, [scores])


@pytest.mark.parametrize(
    "name", [n for n in SCHEDULES if isinstance(SCHEDULES[n][0], nn.Module) and n != "gated"]
)
def test_gradients_in_the_parameters_are_exact(name):
    schedule = SCHEDULES[name][0]
    names, values = zip(*schedule.named_parameters(), strict=True)
    scores = attention_rows()[0, :, :2, :4]

    def attend(*parameters):
        given_parameters = dict(zip(names, parameters, strict=True))
        statistics = gibbs_statistics(scores)
        zeta = torch.func.functional_call(schedule, given_parameters, (statistics,))
        return entmax(scores, zeta.unsqueeze(-1))

    assert_gradients(attend, values)


@pytest.mark.parametrize("name", CONFIGURABLE)
def test_configuration_survives_json(name):
    schedule = SCHEDULES[name][0]
    config = schedule_to_config(schedule)
    rebuilt = schedule_from_config(json.loads(json.dumps(config)))
    assert json.loads(json.dumps(config)) == config
    assert type(rebuilt) is type(schedule)
    assert schedule_to_config(rebuilt) == config
    if isinstance(schedule, nn.Module):
        rebuilt.double().load_state_dict(schedule.state_dict())
    else:
        assert rebuilt == schedule
        assert hash(rebuilt) == hash(schedule)
    statistics = gibbs_statistics(attention_rows())
    assert torch.equal(rebuilt(statistics), schedule(statistics))


def test_a_schedule_of_the_users_own_cannot_be_described():
    with pytest.raises(ValueError, match=r"`schedule` must be one of 'constant', .* in code"):
        schedule_to_config(user_defined)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "quadratic"}, r"must be one of 'constant', 'cosine', .*, got 'quadratic'"),
        ({"low": 0.1}, r"must be one of .*, got None"),
        ({"name": ["linear"]}, r"must be one of .*, got \['linear'\]"),
        ({"name": "linear", "middle": 0.5}, r"schedule 'linear' does not fit.*middle"),
        ({"name": "gated"}, r"schedule 'gated' does not fit.*schedule"),
        ({"name": "linear", "bounds": {"scale": 1.0}}, r"`bounds` .* does not fit.*scale"),
        ({"name": "linear", "low": 0.9, "high": 0.1}, r"0 <= low < high <= 1"),
    ],
)
def test_a_configuration_that_does_not_fit_says_why(config, message):
    with pytest.raises(ValueError, match=message) as caught:
        schedule_from_config(config)
    assert "\n" not in str(caught.value)
