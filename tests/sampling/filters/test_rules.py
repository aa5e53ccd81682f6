"""Rules that no other package ships, against their definitions in float64."""

import math

import pytest
import torch

from gibbsian.sampling.filters import (
    Chain,
    EntmaxFilter,
    Epsilon,
    FreeEnergyPool,
    PLess,
    TargetEntropy,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
)
from gibbsian.statistics import gibbs_statistics
from tests.oracles import entmax as entmax_oracle
from tests.oracles import sampling as oracle
from tests.sampling.cases import pool, rows
from tests.tolerances import ENTMAX_PROBABILITY_ERROR, ENTROPY_TARGET_ERROR

DISTINCT = torch.randn(6, 200, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize("h", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_top_h_is_the_paper_s_rule(h):
    kept = TopH(h=h)(DISTINCT)
    for i in range(len(DISTINCT)):
        assert pool(kept[i]) == oracle.top_h(DISTINCT[i].numpy(), h)


def test_top_h_differs_from_the_partial_sums_of_hugging_face():
    from gibbsian.sampling.filters import TopHPartialSums

    assert (TopH(h=0.5)(DISTINCT) != TopHPartialSums(h=0.5)(DISTINCT)).any()


def test_top_h_of_equal_scores_keeps_the_number_that_the_entropy_allows():
    assert len(pool(TopH(h=0.5)(torch.zeros(1, 100))[0])) == 10


@pytest.mark.parametrize("n", [0.5, 1.0, 2.5])
def test_top_n_sigma(n):
    logits = DISTINCT.clone()
    logits[1, 50:] = -torch.inf
    kept = TopNSigma(n=n)(logits)
    for i in range(len(logits)):
        assert pool(kept[i]) == oracle.top_n_sigma(logits[i].numpy(), n)
    halved = TopNSigma(n=n)(logits / 2)
    assert torch.equal(halved > -torch.inf, kept > -torch.inf)


def test_p_less():
    kept = PLess()(DISTINCT)
    for i in range(len(DISTINCT)):
        assert pool(kept[i]) == oracle.p_less(DISTINCT[i].numpy())


@pytest.mark.parametrize("excess", [0.01, 0.1, 1.0])
def test_a_free_energy_pool_is_the_smallest_within_its_excess(excess):
    kept = FreeEnergyPool(excess=excess)(DISTINCT)
    for i in range(len(DISTINCT)):
        assert pool(kept[i]) == oracle.top_p(DISTINCT[i].numpy(), math.exp(-excess))
    whole, part = gibbs_statistics(DISTINCT.double()), gibbs_statistics(kept.double())
    assert (part.free_energy - whole.free_energy <= excess + 1e-6).all()


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_entmax(zeta):
    probs = EntmaxFilter(zeta=zeta)(DISTINCT).softmax(dim=-1)
    for i in range(len(DISTINCT)):
        expected = torch.tensor(entmax_oracle.probabilities(DISTINCT[i].double().numpy(), zeta))
        error = (probs[i].double() - expected).abs().max()
        assert error <= ENTMAX_PROBABILITY_ERROR


@pytest.mark.parametrize("target", [0.2, 1.0, 3.0, 5.0])
def test_target_entropy(target):
    tempered = TargetEntropy(entropy=target, coldest=1e-5, hottest=1e3)(DISTINCT)
    entropy = gibbs_statistics(tempered.double()).entropy
    assert (entropy - target).abs().max() <= ENTROPY_TARGET_ERROR
    temperature = TargetEntropy(entropy=target, coldest=1e-5, hottest=1e3).temperature(DISTINCT)
    for i in range(len(DISTINCT)):
        expected = oracle.temperature_of_entropy(DISTINCT[i].numpy(), target)
        assert abs(float(temperature[i]) / expected - 1) < 1e-3


@pytest.mark.parametrize(("target", "edge"), [(0.0, 0.5), (50.0, 2.0)])
def test_a_target_out_of_reach_gets_the_nearest_temperature(target, edge):
    solver = TargetEntropy(entropy=target, coldest=0.5, hottest=2.0)
    torch.testing.assert_close(solver.temperature(DISTINCT), torch.full((6,), edge))


def test_target_entropy_of_a_flat_row_changes_nothing_that_matters():
    tempered = TargetEntropy(entropy=1.0)(torch.zeros(2, 10))
    assert torch.equal(tempered, torch.zeros(2, 10))


def test_target_entropy_of_each_row_is_its_own():
    targets = torch.linspace(0.5, 4.0, 6)
    together = TargetEntropy(entropy=targets).temperature(DISTINCT)
    for i in range(6):
        alone = TargetEntropy(entropy=float(targets[i])).temperature(DISTINCT[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)


ALL = [
    Temperature(temperature=0.0),
    Temperature(temperature=1e-30),
    TopK(k=1),
    TopP(p=0.0),
    TopH(h=0.0),
    PLess(),
    TopNSigma(n=1e-9),
    Epsilon(epsilon=0.999),
    EntmaxFilter(zeta=1.0),
    FreeEnergyPool(excess=30.0),
    Temperature(temperature=torch.zeros(12)),
    TopK(k=torch.zeros(12)),
    TopP(p=torch.full((12,), -1.0)),
]


@pytest.mark.parametrize("step", ALL, ids=lambda step: type(step).__name__)
def test_the_argmax_always_stays(step):
    logits = rows()
    kept = step(logits)
    best = kept.argmax(dim=-1, keepdim=True)
    assert (kept.gather(-1, best) > -torch.inf).all()
    assert torch.equal(logits.gather(-1, best), logits.amax(dim=-1, keepdim=True))


@pytest.mark.parametrize("step", [Temperature(temperature=0.0), TopP(p=0.0), TopH(h=0.0)])
def test_the_greedy_limits_leave_one_token(step):
    assert ((step(rows()) > -torch.inf).sum(dim=-1) == 1).all()


def test_rows_at_temperature_0_beside_warm_ones():
    logits = rows()
    temperature = torch.ones(12)
    temperature[::2] = 0.0
    mixed = Temperature(temperature=temperature)(logits)
    assert torch.equal(mixed[1::2], logits[1::2])
    assert torch.equal(mixed[::2], Temperature(temperature=0.0)(logits)[::2])


def test_a_chain_applies_its_filters_in_order():
    chain = Chain((Temperature(temperature=2.0), TopK(k=5)))
    assert torch.equal(chain(DISTINCT), TopK(k=5)(DISTINCT / 2.0))
    assert torch.equal(Chain(())(DISTINCT), DISTINCT)


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 3, 5)])
def test_any_batch_shape(shape):
    logits = torch.randn(shape)
    kept = TopK(k=2)(logits)
    assert kept.shape == logits.shape
    assert ((kept > -torch.inf).sum(dim=-1) == 2).all()


def test_a_bad_row_stays_alone():
    logits = rows()
    expected = TopP(p=0.8)(logits)
    logits[3, 5] = torch.nan
    kept = TopP(p=0.8)(logits)
    good = [i for i in range(12) if i != 3]
    assert torch.equal(kept[good], expected[good])
