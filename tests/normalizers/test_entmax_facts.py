"""The seven facts of the deformed Gibbs distribution, on rows that Hypothesis chooses."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian import entmax
from gibbsian.normalizers import potential
from tests.oracles import entmax as oracle
from tests.tolerances import IDENTITY, assert_identity, assert_slope

rows = st.lists(st.floats(-20, 20), min_size=1, max_size=10).map(
    lambda row: torch.tensor(row, dtype=torch.float64)
)
sparsities = st.one_of(st.sampled_from([0.0, 1e-10, 1e-5, 0.5, 1.0]), st.floats(0, 1))


def level(scores, zeta):
    """c from the largest probability: p_max = exp_zeta(max x - c)."""
    log_max = entmax(scores, zeta).max().log()
    return scores.max() - (torch.expm1(zeta * log_max) / zeta if zeta > 0 else log_max)


@given(rows, sparsities)
def test_1_the_level_lies_between_its_bounds(scores, zeta):
    c = float(level(scores, zeta) - scores.max())
    n = len(scores)
    upper = np.log(n) if zeta == 0 else -np.expm1(-zeta * np.log(n)) / zeta
    assert -IDENTITY <= c <= upper + IDENTITY
    assert abs(c - oracle.level(scores.numpy(), zeta)) < IDENTITY


@given(rows, sparsities.filter(lambda z: z > 0.05))
def test_2_pruning_by_a_bound_on_the_scores_is_exact(scores, zeta):
    probs = entmax(scores, zeta)
    prunable = scores <= scores.max() - 1 / zeta
    assert (probs[prunable] == 0).all()
    assert_identity(entmax(scores, zeta, mask=~prunable), probs)
    # the support is where x > c - 1/zeta, away from its edge
    edge = scores - (level(scores, zeta) - 1 / zeta)
    assert (probs[edge > IDENTITY] > 0).all()
    assert (probs[edge < -IDENTITY] == 0).all()


@given(rows, sparsities)
def test_3_the_probabilities_solve_the_equation(scores, zeta):
    """p = exp_zeta(x - c) with the oracle's c, and sum p = 1."""
    probs = entmax(scores, zeta)
    assert_identity(probs, torch.from_numpy(oracle.probabilities(scores.numpy(), zeta)))
    assert_identity(probs.sum(), 1.0)


@given(rows, sparsities)
def test_4_the_jacobian_is_the_response_minus_the_escort(scores, zeta):
    p = entmax(scores, zeta)
    s = torch.where(p > 0, p ** (1 - zeta), 0.0)
    expected = torch.diag(s) - torch.outer(s, s) / s.sum()
    assert_identity(torch.func.jacrev(lambda x: entmax(x, zeta))(scores), expected)


@given(rows, sparsities)
def test_5_the_derivative_in_sparsity(scores, zeta):
    z = torch.tensor([zeta], dtype=torch.float64)
    _, response = torch.func.jvp(lambda z: entmax(scores, z), (z,), (torch.ones_like(z),))
    expected = torch.from_numpy(oracle.zeta_derivative(scores.numpy(), zeta))
    at_the_edge = (entmax(scores, zeta) - IDENTITY).abs() < 2 * IDENTITY
    if not at_the_edge[scores > scores.max() - 1 / max(zeta, 1e-3)].any():
        # the second derivative is large near the edge of the support
        assert_slope(response, expected)


@given(rows, sparsities, st.integers(0, 2**31))
def test_6_entmax_minimises_the_deformed_free_energy(scores, zeta, seed):
    def free_energy(p):
        return -(p * scores.numpy()).sum() - oracle.tsallis_entropy(p, zeta)

    best = entmax(scores, zeta).numpy()
    assert_identity(-potential(scores, zeta), free_energy(best), scale=20.0)
    other = np.random.default_rng(seed).dirichlet(np.ones(len(scores)))
    for mixing in (1.0, 0.1, 1e-3):
        trial = (1 - mixing) * best + mixing * other
        assert free_energy(trial) >= free_energy(best) - IDENTITY


@given(rows, sparsities, st.floats(-100, 100), st.randoms(use_true_random=False))
def test_7_symmetries(scores, zeta, shift, random):
    probs = entmax(scores, zeta)
    assert_identity(entmax(scores + shift, zeta), probs)
    order = list(range(len(scores)))
    random.shuffle(order)
    assert_identity(entmax(scores[order], zeta), probs[order])
    ranks = scores.argsort(stable=True)
    assert (probs[ranks].diff() >= -IDENTITY).all()


@given(rows)
def test_7_sparsity_to_zero_is_continuous(scores):
    for zeta in (1e-12, 1e-10):
        # |dp/dzeta| <= max L^2 with L up to 40
        difference = (entmax(scores, zeta) - entmax(scores, 0.0)).abs().max()
        assert difference <= zeta * 40**2
