import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian.normalizers import Constant, Cosine, Linear, SmoothStep, VarentropyBounds
from gibbsian.statistics import gibbs_statistics
from tests.normalizers.schedules.cases import RAMPS, ramps, rows, unit, varentropies
from tests.oracles import schedules as oracle
from tests.tolerances import IDENTITY, assert_identity, assert_same

STEEPEST = {"linear": 1.0, "smooth_step": 1.5, "cosine": math.pi / 2}
"""Largest slope of each shape on [0, 1]."""


def as_bounds(bounds):
    return bounds and (bounds.varentropy_scale, bounds.lambda_low, bounds.lambda_high)


@given(ramps(), unit, varentropies, st.sampled_from([0, 1, 2, 30, 100_000]))
def test_ramp_equals_its_definition(ramp, s, varentropy, num_states):
    statistics = rows([s], varentropy, num_states=num_states)
    expected = oracle.ramp(
        ramp.name,
        float(statistics.entropy),
        varentropy,
        num_states,
        low=ramp.low,
        high=ramp.high,
        zeta_max=ramp.zeta_max,
        direction=ramp.direction,
        bounds=as_bounds(ramp.bounds),
    )
    assert_identity(ramp(statistics), expected)


@pytest.mark.parametrize("ramp_class", RAMPS)
@pytest.mark.parametrize("direction", ["concentrate_low", "concentrate_high"])
def test_shape_between_the_edges(ramp_class, direction):
    ramp = ramp_class(direction=direction)
    statistics = rows(torch.linspace(0, 1, 41, dtype=torch.float64))
    expected = [
        oracle.ramp(ramp.name, s, 0.5, 50, low=0.2, high=0.9, zeta_max=1.0, direction=direction)
        for s in statistics.entropy.tolist()
    ]
    assert_identity(ramp(statistics), torch.tensor(expected, dtype=torch.float64))


@given(ramps(), unit, unit, varentropies, varentropies)
def test_continuous_in_entropy_and_varentropy(ramp, s, other_s, v, other_v):
    """Lipschitz, with the constants of the derivation: no jump anywhere, edges included."""
    first, second = ramp(rows([s, other_s], torch.tensor([v, other_v])))
    in_entropy = ramp.zeta_max * STEEPEST[ramp.name] / (ramp.high - ramp.low)
    in_varentropy = 0.0
    if ramp.bounds is not None:
        largest = max(ramp.bounds.lambda_low, ramp.bounds.lambda_high)
        in_varentropy = ramp.zeta_max * largest / ramp.bounds.varentropy_scale
    allowed = in_entropy * abs(s - other_s) + in_varentropy * abs(v - other_v)
    assert abs(first - second) <= allowed + IDENTITY


@given(ramps(), unit, unit, varentropies)
def test_monotone_in_entropy(ramp, s, other_s, varentropy):
    lower, higher = ramp(rows(sorted([s, other_s]), varentropy))
    sparser, denser = (lower, higher) if ramp.direction == "concentrate_low" else (higher, lower)
    assert sparser >= denser - IDENTITY


@given(unit, varentropies, varentropies, st.sampled_from(RAMPS))
def test_higher_varentropy_is_sparser_by_default(s, v, other_v, ramp_class):
    ramp = ramp_class(bounds=VarentropyBounds())
    lower, higher = ramp(rows([s, s], torch.tensor(sorted([v, other_v]))))
    assert higher >= lower - IDENTITY


@given(ramps(), varentropies)
def test_ends_are_exactly_the_bounds(ramp, varentropy):
    v = torch.tensor(varentropy, dtype=torch.float64)
    lower, upper = torch.tensor([0.0, ramp.zeta_max], dtype=torch.float64)
    if ramp.bounds is not None:
        lower, upper = ramp.bounds.interval(v, ramp.zeta_max)
        assert 0 <= lower <= upper + IDENTITY
        assert upper <= ramp.zeta_max
    ends = torch.stack([upper, lower])
    expected = ends if ramp.direction == "concentrate_low" else ends.flip(0)
    assert torch.equal(ramp(rows([0.0, 1.0], v)), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ramp_class", RAMPS)
def test_no_varentropy_gives_exactly_softmax_and_sparsemax_as_bounds(ramp_class, dtype):
    ramp = ramp_class(bounds=VarentropyBounds(lambda_low=0.6, lambda_high=0.4))
    zeta = ramp(rows([0.0, 0.2, 0.9, 1.0], 0.0, dtype=dtype))
    assert zeta.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_half_of_the_effect_at_the_varentropy_scale():
    bounds = VarentropyBounds(varentropy_scale=3.0, lambda_low=0.6, lambda_high=0.2)
    lower, upper = bounds.interval(torch.tensor(3.0).double(), 0.5)
    assert_identity(lower, 0.15)
    assert_identity(upper, 0.45)


@given(unit, st.sampled_from(RAMPS), unit)
def test_directions_are_mirror_images(s, ramp_class, zeta_max):
    statistics = rows([s])
    low = ramp_class(zeta_max=zeta_max)(statistics)
    high = ramp_class(zeta_max=zeta_max, direction="concentrate_high")(statistics)
    assert_identity(low + high, zeta_max)


@given(unit, st.sampled_from(RAMPS), varentropies)
def test_directions_share_their_bounds(s, ramp_class, varentropy):
    """With bounds the two directions add up to lower + upper: both are reflected between them."""
    bounds = VarentropyBounds(lambda_low=0.3, lambda_high=0.1)
    statistics = rows([s], varentropy)
    low = ramp_class(bounds=bounds)(statistics)
    high = ramp_class(bounds=bounds, direction="concentrate_high")(statistics)
    lower, upper = bounds.interval(statistics.varentropy, 1.0)
    assert_identity(low + high, lower + upper)


@pytest.mark.parametrize("direction", ["concentrate_low", "concentrate_high"])
@pytest.mark.parametrize("num_states", [0, 1])
def test_a_row_of_one_state_or_none_has_zeta_max(direction, num_states):
    ramp = SmoothStep(zeta_max=0.7, direction=direction, bounds=VarentropyBounds())
    assert_identity(ramp(rows([0.0], 0.0, num_states=num_states)), 0.7)


@pytest.mark.parametrize(("ramp_class", "smooth"), [(Linear, 0), (SmoothStep, 1), (Cosine, 1)])
@pytest.mark.parametrize("edge", ["low", "high"])
def test_which_ramps_are_continuously_differentiable(ramp_class, smooth, edge):
    """Slope just inside the edge: 0 where the ramp is C1, that of the line where it is not."""
    ramp = ramp_class()
    inside = ramp.low + 1e-9 if edge == "low" else ramp.high - 1e-9
    s = torch.tensor([inside], dtype=torch.float64, requires_grad=True)
    ramp(rows(s)).sum().backward()
    slope = -1 / (ramp.high - ramp.low)
    assert torch.allclose(s.grad, torch.tensor(0.0 if smooth else slope).double(), atol=1e-6)


@given(ramps())
def test_float32_rounding_never_leaves_the_range(ramp):
    s = torch.linspace(0, 1, 2001)
    zeta = ramp(rows(s, 1.0, dtype=torch.float32))
    assert (zeta >= 0).all()
    assert (zeta <= torch.tensor(ramp.zeta_max, dtype=torch.float32)).all()


def test_same_sparsity_for_a_row_of_keys_and_a_row_of_tokens():
    scores = torch.tensor([2.0, 1.0, -1.0, 0.5])
    as_attention = SmoothStep()(gibbs_statistics(scores.expand(1, 1, 1, 4)))
    as_logits = SmoothStep()(gibbs_statistics(scores.expand(1, 4)))
    assert_same(as_attention.flatten(), as_logits)


def test_configurations_are_values():
    assert SmoothStep(low=0.1) == SmoothStep(low=0.1)
    assert len({Linear(), Linear(), Cosine(), Constant(zeta=0.1)}) == 3
    with pytest.raises(AttributeError):
        SmoothStep().low = 0.5


def test_a_constant_for_each_head():
    statistics = gibbs_statistics(torch.randn(2, 3, 4, 5))
    zeta = Constant(zeta=(0.0, 0.25, 1.0))(statistics)
    assert torch.equal(zeta, torch.tensor([0.0, 0.25, 1.0])[:, None].expand(2, 3, 4))
    with pytest.raises(
        ValueError, match=r"`statistics` must be shaped \(\.\.\., heads=2, queries\)"
    ):
        Constant(zeta=(0.1, 0.2))(statistics)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(low=0.9, high=0.2), r"0 <= low < high <= 1, got low=0.9, high=0.2"),
        (lambda: Linear(low=-0.1), r"0 <= low < high <= 1"),
        (lambda: Linear(high=math.nan), r"0 <= low < high <= 1"),
        (lambda: Linear(high=3.0), r"normalised entropies S / log n, not nats"),
        (lambda: Cosine(zeta_max=1.5), r"`zeta_max` must lie in \[0, 1\], got 1.5"),
        (lambda: Constant(zeta=-0.5), r"`zeta` must lie in \[0, 1\], got -0.5"),
        (lambda: Constant(zeta=(0.1, 2.0)), r"`zeta` must lie in \[0, 1\], got 2.0"),
        (lambda: Constant(zeta=()), r"`zeta` must have one value for each head"),
        (lambda: VarentropyBounds(varentropy_scale=0.0), r"`varentropy_scale` must be .* > 0"),
        (lambda: VarentropyBounds(varentropy_scale=math.inf), r"finite number > 0"),
        (lambda: VarentropyBounds(lambda_low=-0.1), r"must be >= 0, got -0.1"),
        (lambda: VarentropyBounds(lambda_low=0.7, lambda_high=0.4), r"must be <= 1, got 0.7"),
    ],
)
def test_arguments_out_of_range_name_the_rule(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_an_unknown_direction_names_the_known_ones():
    """Below the type checks of the tests, as an untyped caller meets it."""
    from gibbsian.normalizers.schedules.base import check_direction

    with pytest.raises(ValueError, match=r"'concentrate_low' or 'concentrate_high', got 'up'"):
        check_direction("up")
