"""One-pass statistics: every number against the oracle, the identities, the edges."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian._errors import ArgumentError
from gibbsian.statistics import GibbsStatistics, gibbs_statistics
from tests.oracles import gibbs as oracle
from tests.tolerances import (
    ENTROPY_ERROR,
    IDENTITY,
    STATISTICS_RELATIVE_ERROR,
    assert_gradients,
    assert_identity,
    assert_same,
)

NAMES = [
    *(f.name for f in fields(GibbsStatistics)),
    *(name for name, value in vars(GibbsStatistics).items() if isinstance(value, property)),
]


def assert_matches_oracle(statistics, scores, mask=None, temperature=1.0):
    """Compare every field and property of a single row."""
    expected = oracle.statistics(scores.numpy(), mask=mask, temperature=temperature)
    assert set(expected) == set(NAMES)
    for name in NAMES:
        assert_identity(getattr(statistics, name), expected[name])


@pytest.mark.parametrize("n", [1, 2, 7, 500])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_every_number_matches_the_oracle(n, scale, temperature):
    scores = torch.randn(n, dtype=torch.float64) * scale
    assert_matches_oracle(
        gibbs_statistics(scores, temperature=temperature), scores, temperature=temperature
    )


@given(
    scores=st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    data=st.data(),
    temperature=st.floats(0.1, 10),
)
def test_masking_is_deletion(scores, data, temperature):
    mask = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    scores = torch.tensor(scores, dtype=torch.float64)
    mask = torch.tensor(mask)
    masked = gibbs_statistics(scores, mask=mask, temperature=temperature)
    removed = gibbs_statistics(scores.masked_fill(~mask, -torch.inf), temperature=temperature)
    deleted = gibbs_statistics(scores[mask], temperature=temperature)
    for name in NAMES:
        assert_identity(getattr(masked, name), getattr(deleted, name))
        assert torch.equal(getattr(masked, name), getattr(removed, name))
    assert_matches_oracle(masked, scores, mask=mask.numpy(), temperature=temperature)


@given(
    scores=st.lists(st.floats(-30, 30), min_size=2, max_size=10), temperature=st.floats(0.2, 5.0)
)
def test_thermodynamic_identities(scores, temperature):
    """F = U - T S; S = beta (U - F), not beta^-1 U + F; bounds."""
    beta = 1 / temperature
    s = gibbs_statistics(torch.tensor(scores, dtype=torch.float64), temperature=temperature)
    assert_identity(s.free_energy, s.internal_energy - temperature * s.entropy, scale=50.0)
    assert_identity(s.entropy, beta * (s.internal_energy - s.free_energy), scale=50.0)
    log_n = np.log(len(scores))
    assert -IDENTITY <= s.min_entropy <= s.collision_entropy + IDENTITY
    assert s.collision_entropy <= s.entropy + IDENTITY
    assert s.entropy <= log_n + IDENTITY
    assert s.varentropy >= 0
    for size in (1 / s.max_prob, s.effective_support, s.participation_ratio):
        assert 1 - IDENTITY <= size <= len(scores) + len(scores) * IDENTITY


def test_derivatives_in_temperature_are_the_thermodynamic_ones():
    """S = -dF/dT, U = d(-log Z)/d beta, V = dU/dT = dS/d log T."""
    scores = torch.randn(6, 40, dtype=torch.float64) * 3
    temperature = torch.linspace(0.3, 4, 6, dtype=torch.float64).requires_grad_()
    beta = (1 / temperature.detach()).requires_grad_()

    def gradient(value, variable):
        return torch.autograd.grad(value.sum(), variable, retain_graph=True)[0]

    s = gibbs_statistics(scores, temperature=temperature)
    assert_identity(-gradient(s.free_energy, temperature), s.entropy)
    assert_identity(gradient(s.internal_energy, temperature), s.varentropy)
    assert_identity(temperature * gradient(s.entropy, temperature), s.varentropy)
    log_z = gibbs_statistics(scores, temperature=1 / beta).log_partition
    assert_identity(-gradient(log_z, beta), s.internal_energy)
    # V is beta^2 times the variance of the energies
    p = (scores * beta.detach()[:, None]).softmax(-1)
    variance = (p * scores**2).sum(-1) - (p * scores).sum(-1) ** 2
    assert_identity(s.varentropy, beta.detach() ** 2 * variance)


def test_cross_entropy_of_an_observed_state_is_beta_times_its_energy_above_the_free_energy():
    """J = -log p_y = beta (E_y - F), not beta E_y + F."""
    scores = torch.randn(5, 9, dtype=torch.float64)
    target = torch.tensor([0, 3, 8, 2, 2])
    temperature = 1.7
    s = gibbs_statistics(scores, temperature=temperature)
    energy = -scores.gather(-1, target[:, None]).squeeze(-1)
    expected = torch.nn.functional.cross_entropy(scores / temperature, target, reduction="none")
    assert_identity((energy - s.free_energy) / temperature, expected)


def test_varentropy_is_zero_exactly_for_uniform_rows():
    for row in ([2.0], [3.0, 3.0, 3.0], [5.0, -torch.inf, 5.0]):
        s = gibbs_statistics(torch.tensor(row))
        assert s.varentropy == 0
        assert s.third_cumulant == 0
    assert gibbs_statistics(torch.tensor([0.0, 1e-3])).varentropy > 0


@pytest.mark.parametrize("std", [1e-6, 1e-5, 1e-4, 1e-2])
@pytest.mark.parametrize("n", [10, 1000, 100_000])
def test_nearly_uniform_rows_keep_their_varentropy_in_float32(std, n):
    scores = torch.randn(n) * std
    expected = oracle.statistics(scores.numpy())["varentropy"]
    actual = float(gibbs_statistics(scores).varentropy)
    assert abs(actual / expected - 1) < STATISTICS_RELATIVE_ERROR
    # the difference of raw moments has no digit left
    p, surprisal = scores.softmax(-1), -scores.log_softmax(-1)
    raw = float((p * surprisal**2).sum() - (p * surprisal).sum() ** 2)
    if std < 1e-3:
        assert abs(raw / expected - 1) > STATISTICS_RELATIVE_ERROR


def test_a_large_vocabulary_loses_nothing_to_a_small_constant_in_the_logarithm():
    """Adding eps = 1e-9 to p under the logarithm costs 0.28 nat on such rows; here nothing."""
    scores = torch.randn(32_000) * 10
    expected = oracle.statistics(scores.numpy())
    s = gibbs_statistics(scores)
    for name in ("entropy", "min_entropy", "collision_entropy"):
        assert abs(float(getattr(s, name)) - expected[name]) < ENTROPY_ERROR
    assert abs(float(s.varentropy) / expected["varentropy"] - 1) < STATISTICS_RELATIVE_ERROR


@pytest.mark.parametrize("offset", [1e4, -1e5, 1e5])
def test_an_offset_changes_only_the_energies(offset):
    # multiples of 1/64 stay exact when 1e5 is added in float32
    scores = (torch.randn(200) * 3 * 64).round() / 64
    plain, moved = gibbs_statistics(scores), gibbs_statistics(scores + offset)
    for name in NAMES:
        if name not in {"max_score", "log_partition", "free_energy", "internal_energy"}:
            assert torch.equal(getattr(plain, name), getattr(moved, name)), name
    assert moved.max_score == plain.max_score + offset


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_scores_and_unreachable_states(dtype):
    """1e4, and the type's minimum that additive masks use: never 0 * inf."""
    lowest = torch.finfo(dtype).min
    row = torch.tensor([1e4, -1e4, 1e4 - 1, lowest], dtype=dtype, requires_grad=True)
    temperature = torch.tensor(0.5, dtype=dtype, requires_grad=True)
    s = gibbs_statistics(row, temperature=temperature)
    assert s.num_states == 4
    reference = gibbs_statistics(row[[0, 2]], temperature=temperature)
    for name in ("entropy", "varentropy", "third_cumulant", "log_partition", "internal_energy"):
        value = getattr(s, name)
        assert_same(value, getattr(reference, name))
        grads = torch.autograd.grad(value, (row, temperature), retain_graph=True)
        assert all(g.isfinite().all() for g in grads), name


def test_rows_with_no_state_are_zero_and_pass_no_gradient():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor([2.0, 0.5], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True], [False, False]])
    s = gibbs_statistics(scores, mask=mask, temperature=temperature)
    for name in NAMES:
        value = getattr(s, name)
        assert not value.isnan().any(), name
        if name not in {"max_score", "log_partition", "free_energy", "temperature"}:
            assert value[1] == 0, name
        if name == "num_states":
            continue
        grads = torch.autograd.grad(
            value.sum(), (scores, temperature), retain_graph=True, materialize_grads=True
        )
        assert all(g.isfinite().all() for g in grads), name
        assert (grads[0][1] == 0).all(), name
    assert s.max_score[1] == s.log_partition[1] == -torch.inf
    assert s.free_energy[1] == torch.inf
    assert gibbs_statistics(torch.zeros(3, 0)).entropy.tolist() == [0.0, 0.0, 0.0]


def test_a_bad_score_turns_its_own_row_into_nan_only():
    scores = torch.tensor([[0.0, torch.nan], [0.0, torch.inf], [0.0, 1.0]])
    s = gibbs_statistics(scores)
    for name in ("entropy", "varentropy", "third_cumulant", "log_partition", "internal_energy"):
        assert getattr(s, name).isnan().tolist() == [True, True, False], name
    clean = gibbs_statistics(scores, mask=scores.isfinite())
    assert not clean.entropy.isnan().any()


def test_validation():
    with pytest.raises(ArgumentError, match=r"`scores` must be finite or -inf"):
        gibbs_statistics(torch.tensor([0.0, torch.nan]), validate=True)
    with pytest.raises(ArgumentError, match=r"`temperature` must be > 0, got -1.0"):
        gibbs_statistics(torch.zeros(2, 2), temperature=torch.tensor([1.0, -1.0]), validate=True)
    for bad in (0.0, -2.0, float("nan")):
        with pytest.raises(ArgumentError, match=r"`temperature` must be > 0.*argmax"):
            gibbs_statistics(torch.zeros(2), temperature=bad)
    with pytest.raises(ArgumentError, match=r"`temperature` must broadcast to the rows \(2,\)"):
        gibbs_statistics(torch.zeros(2, 3), temperature=torch.ones(3))
    scores = torch.tensor([0.0, torch.nan, -torch.inf])
    gibbs_statistics(scores, mask=torch.tensor([True, False, True]), validate=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    scores = (torch.randn(4, 300) * 4).to(dtype)
    half, single = gibbs_statistics(scores), gibbs_statistics(scores.float())
    for name in NAMES:
        assert getattr(half, name).dtype == torch.float32
        assert torch.equal(getattr(half, name), getattr(single, name))


@pytest.mark.parametrize("dim", [0, 1, -2, 2])
def test_any_dimension_and_any_strides(dim):
    scores = torch.randn(3, 4, 5, dtype=torch.float64)
    mask = torch.rand(3, 4, 5) > 0.3
    s = gibbs_statistics(scores, mask=mask, dim=dim)
    last = gibbs_statistics(
        scores.movedim(dim, -1).contiguous(), mask=mask.movedim(dim, -1).contiguous()
    )
    for name in NAMES:
        assert_identity(getattr(s, name), getattr(last, name))
    expanded = torch.randn(1, 5).expand(4, 5)
    assert torch.equal(gibbs_statistics(expanded).entropy[0], gibbs_statistics(expanded[0]).entropy)


def test_one_temperature_a_row():
    scores = torch.randn(2, 3, 8, dtype=torch.float64)
    temperature = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    s = gibbs_statistics(scores, temperature=temperature)
    for i in range(2):
        for j in range(3):
            expected = oracle.statistics(scores[i, j].numpy(), temperature=float(temperature[i]))
            assert_identity(s.varentropy[i, j], expected["varentropy"])
            assert_identity(s.free_energy[i, j], expected["free_energy"])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in {"num_states", "temperature"}])
def test_derivatives_of_every_number(name):
    scores = torch.tensor([[0.3, -1.2, 0.9, 2.2], [-0.4, 0.1, 7.0, 0.5]])
    mask = torch.tensor([[True, True, True, True], [True, True, False, True]])
    temperature = torch.tensor([0.8, 1.9])

    def value(scores, temperature):
        return getattr(gibbs_statistics(scores, mask=mask, temperature=temperature), name)

    assert_gradients(value, (scores, temperature), second_order=True)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_n_point_functions_are_derivatives_of_log_z_in_a_source(order):
    """Connected correlators of an observable = derivatives of log Z at zero source."""
    scores = torch.randn(12, dtype=torch.float64)
    observable = torch.randn(12, dtype=torch.float64)
    source = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = gibbs_statistics(scores + source * observable).log_partition
    for _ in range(order):
        (value,) = torch.autograd.grad(value, source, create_graph=True)
    assert_identity(value, oracle.cumulants(scores.numpy(), observable.numpy())[order - 1])


def test_cumulants_of_the_surprisal_are_the_derivatives_in_the_inverse_temperature():
    """At T = 1: S, V, kappa_3 from log Z(beta) alone; kappa_3 is of log p, hence its sign."""
    scores = torch.randn(30, dtype=torch.float64) * 2
    beta = torch.ones((), dtype=torch.float64, requires_grad=True)
    value = gibbs_statistics(scores, temperature=1 / beta).log_partition
    derivatives = []
    for _ in range(3):
        (value,) = torch.autograd.grad(value, beta, create_graph=True)
        derivatives.append(value)
    s = gibbs_statistics(scores)
    assert_identity(derivatives[0], -s.internal_energy)
    assert_identity(derivatives[1], s.varentropy)
    assert_identity(derivatives[2], s.third_cumulant)


def test_rows_do_not_leak_into_each_other():
    scores = torch.randn(5, 20)
    changed = scores.clone()
    changed[3] += torch.randn(20) * 100
    keep = torch.tensor([0, 1, 2, 4])
    for name in NAMES:
        before = getattr(gibbs_statistics(scores), name)[keep]
        assert torch.equal(before, getattr(gibbs_statistics(changed), name)[keep])


def test_detach_cuts_the_graph_and_keeps_the_numbers():
    scores = torch.randn(3, 4, requires_grad=True)
    s = gibbs_statistics(scores)
    d = s.detach()
    for name in NAMES:
        assert not getattr(d, name).requires_grad
        assert torch.equal(getattr(d, name), getattr(s, name))
    assert s.entropy.requires_grad


def test_works_under_vmap():
    scores = torch.randn(4, 6, dtype=torch.float64)
    batched = torch.func.vmap(lambda row: gibbs_statistics(row).varentropy)(scores)
    assert_identity(batched, gibbs_statistics(scores).varentropy)
