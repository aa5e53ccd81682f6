import math

import pytest
import torch

from gibbsian.normalizers import (
    Constant,
    Cosine,
    Gated,
    LearnableConstant,
    LearnableRamp,
    Linear,
    entmax,
    entropy_response,
    schedule_from_config,
)
from gibbsian.statistics import gibbs_statistics
from tests.normalizers.schedules.cases import HEADS, rows, user_defined
from tests.tolerances import assert_same


def mixed_rows():
    """Some rows answer to sparsity, some are nearly uniform, some have collapsed."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1e-4, 1e-3, 1e-2, 0.3, 1.0, 3.0, 60.0]).unsqueeze(-1)
    return spread * torch.randn(2, HEADS, 7, 12, generator=generator, dtype=torch.float64)


def test_freezes_the_rows_under_the_tolerance():
    gate = Gated(schedule=Linear(zeta_max=0.5), constant=0.123, tolerance=0.01)
    statistics = gibbs_statistics(mixed_rows())
    answer = torch.stack(
        [
            chi * (math.exp(2 * s * 0.5) - 1) / (2 * s)
            for s, chi in zip(
                statistics.entropy.flatten(), statistics.susceptibility.flatten(), strict=True
            )
        ]
    ).reshape(2, HEADS, 7)
    frozen = answer < 0.01
    assert 0 < frozen.sum() < frozen.numel()
    assert torch.equal(gate.frozen(statistics), frozen)
    zeta = gate(statistics)
    assert (zeta[frozen] == 0.123).all()
    assert torch.equal(zeta[~frozen], Linear(zeta_max=0.5)(statistics)[~frozen])


def test_the_tolerance_is_in_nats_of_predicted_entropy():
    statistics = rows([0.7], 0.02)
    predicted = float(entropy_response(statistics, 0.5))
    for tolerance, frozen in ((predicted * 0.999, False), (predicted * 1.001, True)):
        gate = Gated(schedule=Linear(zeta_max=0.5), constant=0.1, tolerance=tolerance)
        assert bool(gate.frozen(statistics)) is frozen


@pytest.mark.parametrize("num_states", [8, 200, 4000])
@pytest.mark.parametrize("zeta_max", [0.3, 1.0])
def test_sparsity_changes_little_in_frozen_rows(num_states, zeta_max):
    """The entropy that zeta_max really takes off a frozen row is of the order of the tolerance.

    Not so for the straight line |chi| zeta_max: on nearly uniform rows of many states it is wrong
    by any factor, and would freeze rows that sparsity reduces to a few states.
    """
    generator = torch.Generator().manual_seed(0)
    spread = torch.logspace(-6, 2, 60, dtype=torch.float64).unsqueeze(-1)
    scores = spread * torch.randn(60, num_states, generator=generator, dtype=torch.float64)
    statistics = gibbs_statistics(scores)
    gate = Gated(schedule=Linear(zeta_max=zeta_max), constant=0.0, tolerance=0.01)
    probs = entmax(scores, zeta_max)
    taken = statistics.entropy + torch.xlogy(probs, probs).sum(-1)
    frozen = gate.frozen(statistics)
    assert frozen.any()
    assert taken[frozen].max() < 4 * gate.tolerance
    straight_line = statistics.susceptibility * zeta_max < gate.tolerance
    if num_states == 4000 and zeta_max == 1.0:
        assert taken[straight_line].max() > 100 * gate.tolerance


def test_fixed_freezes_all_rows_and_dynamic_none():
    statistics = gibbs_statistics(mixed_rows())
    fixed = Gated(schedule=Cosine(), constant=0.2, mode="fixed")
    dynamic = Gated(schedule=Cosine(), constant=0.2, mode="dynamic")
    assert torch.equal(fixed(statistics), Constant(zeta=0.2)(statistics))
    assert torch.equal(dynamic(statistics), Cosine()(statistics))
    assert fixed.frozen(statistics).all()
    assert not dynamic.frozen(statistics).any()


def test_tolerance_0_freezes_no_row():
    statistics = gibbs_statistics(mixed_rows())
    gate = Gated(schedule=Cosine(), constant=0.2, tolerance=0.0)
    assert torch.equal(gate(statistics), Cosine()(statistics))


def test_the_rule_uses_the_largest_sparsity_of_the_schedule_head_by_head():
    ramp = LearnableRamp(num_heads=2).double()
    with torch.no_grad():
        ramp.raw_zeta_max.copy_(torch.tensor([-9.0, 9.0]))
    statistics = rows([[0.9], [0.9]], 0.02)
    gate = Gated(schedule=ramp, constant=0.2, tolerance=0.01)
    assert gate.frozen(statistics).tolist() == [[True], [False]]


def test_a_schedule_without_zeta_max_counts_as_1():
    statistics = gibbs_statistics(mixed_rows())
    plain = Gated(schedule=user_defined, constant=0.2)
    known = Gated(schedule=Linear(zeta_max=1.0), constant=0.2)
    assert torch.equal(plain.frozen(statistics), known.frozen(statistics))


def test_gradients_go_to_the_part_that_a_row_uses():
    gate = Gated(
        schedule=LearnableConstant(), constant=LearnableConstant(), tolerance=0.01
    ).for_heads(HEADS)
    statistics = gibbs_statistics(mixed_rows())
    frozen = gate.frozen(statistics)
    gate(statistics).sum().backward()
    assert_same(
        gate.constant.raw_zeta.grad / gate.schedule.raw_zeta.grad,
        (frozen.sum((0, 2)) / (~frozen).sum((0, 2))),
    )


def test_parts_with_parameters_are_submodules_and_for_heads_reaches_them():
    gate = Gated(schedule=LearnableRamp(), constant=LearnableConstant(zeta=0.1)).eval()
    built = gate.for_heads(HEADS)
    assert set(dict(built.named_parameters())) == {
        "schedule.raw_low",
        "schedule.raw_high",
        "schedule.raw_zeta_max",
        "constant.raw_zeta",
    }
    assert all(p.shape == (HEADS,) for p in built.parameters())
    assert all(p.shape == (1,) for p in gate.parameters())
    assert not built.training
    assert (built.tolerance, built.mode) == (gate.tolerance, gate.mode)
    assert Gated(schedule=Linear(), constant=0.1).for_heads(4).schedule == Linear()


def test_a_number_for_the_constant_may_be_written_in_a_configuration():
    gate = schedule_from_config({"name": "gated", "schedule": {"name": "linear"}, "constant": 0.3})
    assert gate.constant == Constant(zeta=0.3)
    assert repr(gate).startswith("Gated(schedule=Linear(")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constant": 1.5}, r"`zeta` must lie in \[0, 1\], got 1.5"),
        ({"tolerance": -1.0}, r"`tolerance` must be a finite number >= 0 \(nats\), got -1.0"),
        ({"tolerance": math.inf}, r"`tolerance` must be .* mode='fixed'"),
    ],
)
def test_arguments_out_of_range_name_the_rule(options, message):
    with pytest.raises(ValueError, match=message):
        Gated(**{"schedule": Linear(), "constant": 0.1, **options})
