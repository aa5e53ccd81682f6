import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gibbsian.normalizers import (
    LearnableConstant,
    LearnableRamp,
    SmoothStep,
    VarentropyBounds,
    entmax,
    schedule_from_config,
    schedule_to_config,
)
from gibbsian.normalizers.schedules.learnable_bounds import LearnableBounds
from gibbsian.statistics import gibbs_statistics
from tests.normalizers.schedules.cases import HEADS, rows, unit, varentropies
from tests.oracles import schedules as oracle
from tests.tolerances import IDENTITY, LEARNED_SPARSITY_ERROR, assert_identity, assert_same

MOVING = VarentropyBounds(varentropy_scale=2.0, lambda_low=0.4, lambda_high=0.3)


def varied_scores():
    """Rows from nearly uniform to collapsed, (batch, heads, queries, keys)."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, HEADS, 16, 24)
    spread = 0.3 + 3.7 * torch.rand(*shape[:3], 1, generator=generator, dtype=torch.float64)
    return spread * torch.randn(shape, generator=generator, dtype=torch.float64)


def fit(schedule, target, *, steps, rate):
    """Plain gradient descent on the weights that a planted sparsity gives; returns zeta."""
    scores = varied_scores()
    statistics = gibbs_statistics(scores)
    wanted = entmax(scores, target.unsqueeze(-1))
    optimizer = torch.optim.SGD(schedule.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        probs = entmax(scores, schedule(statistics).unsqueeze(-1))
        (probs - wanted).square().sum(-1).mean().backward()
        optimizer.step()
    return schedule(statistics).detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initial_values_are_those_given(dtype):
    ramp = LearnableRamp(num_heads=2, low=0.3, high=0.85, zeta_max=0.7, bounds=MOVING).to(dtype)
    for value, expected in (
        (ramp.low, 0.3),
        (ramp.high, 0.85),
        (ramp.zeta_max, 0.7),
        (ramp.bounds.varentropy_scale, 2.0),
        (ramp.bounds.lambda_low, 0.4),
        (ramp.bounds.lambda_high, 0.3),
        (LearnableConstant(num_heads=2, zeta=0.25).zeta, 0.25),
    ):
        assert_same(value.float(), torch.full((2,), expected))


def test_a_configuration_holds_the_initial_values():
    ramp = schedule_from_config(schedule_to_config(LearnableRamp(low=0.3, bounds=MOVING)))
    assert_same(ramp.low, torch.tensor(0.3))
    assert_same(ramp.bounds.lambda_high, torch.tensor(0.3))
    constant = schedule_from_config(schedule_to_config(LearnableConstant(zeta=0.2)))
    assert_same(constant.zeta, torch.tensor(0.2))


def test_shared_values_read_as_numbers():
    ramp = LearnableRamp()
    assert ramp.low.shape == ramp.high.shape == ramp.zeta_max.shape == ()
    assert LearnableConstant().zeta.shape == ()
    # one element, not none: sharded data parallelism refuses parameters without a dimension
    assert all(p.shape == (1,) for p in ramp.parameters())


@given(unit, st.floats(0.05, 0.5), st.floats(0.55, 0.95), st.floats(0.01, 0.99))
def test_ramp_equals_its_definition(s, low, high, zeta_max):
    ramp = LearnableRamp(low=low, high=high, zeta_max=zeta_max).double()
    statistics = rows([s])
    expected = oracle.learnable_ramp(
        float(statistics.entropy),
        50,
        low=ramp.low.item(),
        high=ramp.high.item(),
        zeta_max=ramp.zeta_max.item(),
    )
    assert_identity(ramp(statistics), expected)


@given(
    st.lists(st.floats(-200, 200), min_size=6, max_size=6), unit, unit, varentropies, st.booleans()
)
def test_wherever_descent_goes_the_ramp_is_a_ramp(raw, s, other_s, varentropy, mirrored):
    direction = "concentrate_high" if mirrored else "concentrate_low"
    ramp = LearnableRamp(direction=direction, bounds=MOVING)
    with torch.no_grad():
        for parameter, value in zip(ramp.parameters(), raw, strict=True):
            # e^a is the scale of the varentropy: float32 ends at e^88
            parameter.fill_(max(-80.0, min(80.0, value)))
    assert 0 <= ramp.low < ramp.high <= 1
    statistics = rows(sorted([s, other_s]), varentropy, dtype=torch.float32)
    zeta = ramp(statistics)
    assert ((zeta >= 0) & (zeta <= ramp.zeta_max)).all()
    sparser, denser = zeta.flip(0) if mirrored else zeta
    assert sparser >= denser - torch.finfo(torch.float32).eps
    zeta.sum().backward()
    assert all(p.grad.isfinite().all() for p in ramp.parameters())


@pytest.mark.parametrize("direction", ["concentrate_low", "concentrate_high"])
def test_zeta_begins_strictly_inside_its_range_and_every_parameter_has_a_gradient(direction):
    """Nearly uniform rows too, as those of a model that begins: beyond the edge of a fixed ramp."""
    scores = 0.1 * torch.randn(2, HEADS, 5, 40)
    statistics = gibbs_statistics(scores)
    assert (statistics.normalized_entropy > SmoothStep().high).all()
    ramp = LearnableRamp(num_heads=HEADS, direction=direction, bounds=MOVING)
    zeta = ramp(statistics)
    assert ((zeta > 0) & (zeta < 1)).all()
    zeta.sum().backward()
    assert all((p.grad != 0).all() for p in ramp.parameters())


def test_directions_are_mirror_images():
    statistics = rows(torch.linspace(0, 1, 11))
    low = LearnableRamp(zeta_max=0.6).double()
    high = LearnableRamp(zeta_max=0.6, direction="concentrate_high").double()
    assert_identity(low(statistics) + high(statistics), low.zeta_max.detach())


def test_no_varentropy_no_bounds():
    statistics = rows(torch.linspace(0, 1, 11), 0.0)
    bounded = LearnableRamp(bounds=MOVING).double()
    assert_identity(bounded(statistics), LearnableRamp().double()(statistics).detach())


def test_bounds_are_those_of_the_fixed_ones():
    v = torch.linspace(0, 9, 7, dtype=torch.float64)
    learnable = LearnableBounds(MOVING).double()
    for learned, fixed in zip(
        learnable.interval(v, torch.tensor(0.8, dtype=torch.float64)),
        MOVING.interval(v, 0.8),
        strict=True,
    ):
        assert_same(learned.float(), fixed.float())


def test_a_lambda_that_begins_at_0_stays_there():
    ramp = LearnableRamp(bounds=VarentropyBounds())
    names = [name for name, _ in ramp.named_parameters()]
    assert "bounds.raw_lambda_low" in names
    assert "bounds.raw_lambda_high" not in names
    assert ramp.bounds.lambda_high == 0
    assert LearnableBounds(VarentropyBounds(lambda_low=0.0, lambda_high=0.5)).lambda_low == 0


def test_a_head_learns_from_its_own_rows():
    ramp = LearnableRamp(num_heads=HEADS)
    ramp(gibbs_statistics(varied_scores().float()))[:, 1].sum().backward()
    for parameter in ramp.parameters():
        assert (parameter.grad != 0).tolist() == [False, True, False]


def test_descent_finds_a_planted_constant_for_each_head():
    planted = torch.tensor([0.15, 0.4, 0.8], dtype=torch.float64)
    schedule = LearnableConstant(num_heads=HEADS).double()
    fit(schedule, planted[:, None].expand(4, HEADS, 16), steps=150, rate=3.0)
    assert (schedule.zeta - planted).abs().max() < LEARNED_SPARSITY_ERROR


def test_descent_finds_a_planted_ramp():
    planted = LearnableRamp(low=0.4, high=0.7, zeta_max=0.9).double()
    target = planted(gibbs_statistics(varied_scores())).detach()
    schedule = LearnableRamp(num_heads=HEADS).double()
    zeta = fit(schedule, target, steps=300, rate=20.0)
    assert (zeta - target).abs().max() < LEARNED_SPARSITY_ERROR


def test_descent_moves_the_bounds():
    """Every parameter of the bounds comes nearer to the planted one."""
    planted = LearnableRamp(low=0.4, high=0.7, zeta_max=0.9, bounds=MOVING).double()
    target = planted(gibbs_statistics(varied_scores())).detach()
    start = LearnableRamp(low=0.4, high=0.7, zeta_max=0.9, bounds=VarentropyBounds()).double()
    before = (start(gibbs_statistics(varied_scores())) - target).abs().mean()
    after = (fit(start, target, steps=150, rate=20.0) - target).abs().mean()
    assert after < before / 2
    assert start.bounds.varentropy_scale != 1.0
    assert start.bounds.lambda_low != 0.5


def test_for_heads_starts_every_head_from_the_shared_values():
    shared = LearnableRamp(low=0.3, bounds=MOVING)
    with torch.no_grad():
        shared.raw_low.add_(0.1)
    shared.raw_high.requires_grad_(False)
    built = shared.for_heads(HEADS)
    statistics = gibbs_statistics(torch.randn(2, HEADS, 4, 7))
    assert_same(built(statistics), shared(statistics))
    assert all(p.shape == (HEADS,) and p.is_leaf for p in built.parameters())
    assert not built.raw_high.requires_grad
    assert built.raw_low.requires_grad
    assert built.options() == {**shared.options(), "num_heads": HEADS}
    # a copy: neither changes the other
    with torch.no_grad():
        built.raw_low.fill_(0.0)
    assert shared.raw_low.shape == (1,)
    assert shared.raw_low != 0


def test_for_heads_with_the_same_number_is_a_copy():
    ramp = LearnableRamp(num_heads=2)
    with torch.no_grad():
        ramp.raw_low.copy_(torch.tensor([0.1, 0.2]))
    copied = ramp.for_heads(2)
    assert torch.equal(copied.raw_low, ramp.raw_low)
    assert copied.raw_low is not ramp.raw_low


@pytest.mark.parametrize("num_heads", [None, HEADS])
def test_state_dict_round_trip(num_heads):
    trained = LearnableRamp(num_heads=num_heads, bounds=MOVING)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.normal_()
    fresh = LearnableRamp(num_heads=num_heads, bounds=MOVING)
    fresh.load_state_dict(copy.deepcopy(trained.state_dict()))
    statistics = gibbs_statistics(torch.randn(2, HEADS, 4, 7))
    assert torch.equal(fresh(statistics), trained(statistics))


def test_half_precision_parameters_are_computed_in_the_statistics_dtype():
    ramp = LearnableRamp(num_heads=HEADS, bounds=MOVING).bfloat16()
    zeta = ramp(gibbs_statistics(torch.randn(2, HEADS, 4, 7, dtype=torch.bfloat16)))
    assert zeta.dtype == torch.float32
    zeta.sum().backward()
    assert ramp.raw_low.grad.dtype == torch.bfloat16


def test_parameters_of_a_schedule_are_those_of_its_owner():
    owner = nn.Module()
    owner.schedule = LearnableRamp(num_heads=HEADS)
    assert {name for name, _ in owner.named_parameters()} == {
        "schedule.raw_low",
        "schedule.raw_high",
        "schedule.raw_zeta_max",
    }
    assert "num_heads=3, direction='concentrate_low'" in repr(owner)


def test_a_row_of_one_state_or_none_has_zeta_max():
    ramp = LearnableRamp(num_heads=2, zeta_max=0.3, bounds=MOVING).double()
    zeta = ramp(rows([[0.0], [0.0]], 0.0, num_states=torch.tensor([[0.0], [1.0]])))
    assert_identity(zeta, ramp.zeta_max.detach().unsqueeze(-1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LearnableRamp(low=0.0), r"0 < low < high - 0.01 .* got low=0.0, high=0.9"),
        (lambda: LearnableRamp(high=1.0), r"high < 1 to be learned, got low=0.2, high=1.0"),
        (lambda: LearnableRamp(low=0.5, high=0.505), r"0 < low < high - 0.01"),
        (lambda: LearnableRamp(zeta_max=1.0), r"`zeta_max` must lie strictly between 0 and 1"),
        (lambda: LearnableConstant(zeta=0.0), r"`zeta` must lie strictly between 0 and 1"),
        (lambda: LearnableConstant(num_heads=0), r"`num_heads` must be >= 1, got 0"),
        (lambda: LearnableRamp().for_heads(0), r"`num_heads` must be >= 1, got 0"),
        (lambda: LearnableRamp(num_heads=2).for_heads(3), r"`num_heads` must be 2, .* got 3"),
        (
            lambda: LearnableRamp(bounds=VarentropyBounds(lambda_low=1.0)),
            r"`lambda_low` \+ `lambda_high` must be < 1 to be learned, got 1.0",
        ),
        (
            lambda: LearnableRamp(num_heads=4)(gibbs_statistics(torch.randn(2, 3, 5, 6))),
            r"`statistics` must be shaped \(\.\.\., heads=4, queries\) .* got \(2, 3, 5\)",
        ),
        (
            lambda: LearnableConstant(num_heads=4)(gibbs_statistics(torch.randn(4, 6))),
            r"`statistics` must be shaped .* `num_heads=None`",
        ),
    ],
)
def test_arguments_out_of_range_name_the_rule(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_the_narrowest_ramp_is_still_a_ramp():
    ramp = LearnableRamp(low=0.5, high=0.5101).double()
    zeta = ramp(rows([0.4, 0.6]))
    assert_identity(zeta[0], ramp.zeta_max.item())
    assert abs(zeta[1]) < IDENTITY


def test_values_are_the_properties_by_name():
    ramp = LearnableRamp(num_heads=HEADS, low=0.3, bounds=VarentropyBounds(lambda_low=0.25))
    with torch.no_grad():
        ramp.raw_zeta_max.copy_(torch.linspace(-1, 1, HEADS))
    found = ramp.values()
    assert sorted(found) == sorted(
        ("low", "high", "zeta_max", "varentropy_scale", "lambda_low", "lambda_high")
    )
    assert torch.equal(found["zeta_max"], torch.linspace(-1, 1, HEADS).sigmoid())
    assert found["low"].tolist() == pytest.approx([0.3] * HEADS)
    assert found["lambda_low"].tolist() == pytest.approx([0.25] * HEADS)
    assert {name: v.item() for name, v in LearnableConstant(zeta=0.25).values().items()} == {
        "zeta": pytest.approx(0.25)
    }
