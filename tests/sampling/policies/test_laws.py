"""The laws of the policies that follow one formula."""

import math

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.normalizers import Constant, SmoothStep, entmax
from gibbsian.sampling import AttentionSignals, Decision, policies, start, step
from gibbsian.statistics import gibbs_statistics, row_statistics
from tests.oracles import sampling as oracle
from tests.sampling.cases import pool
from tests.sampling.policies.cases import EVERY
from tests.tolerances import ENTROPY_TARGET_ERROR, MEAN_SURPRISAL_ERROR

LOGITS = torch.randn(8, 300, generator=torch.Generator().manual_seed(2)) * 2


def decided(policy, logits=LOGITS):
    return policy.decide(row_statistics(logits), policy.start(len(logits), "cpu"))[0]


def test_edt_is_its_formula():
    temperature = decided(policies.EDT(temperature=0.9, theta=0.7, base=0.8)).temperature
    for i, row in enumerate(LOGITS):
        expected = 0.9 * 0.8 ** (0.7 / oracle.entropy(row.numpy()))
        assert float(temperature[i]) == pytest.approx(expected, rel=1e-5)


def test_edt_at_entropy_0_is_greedy_and_at_theta_0_constant():
    certain = torch.full((1, 9), -torch.inf)
    certain[0, 3] = 1.0
    assert float(decided(policies.EDT(), certain).temperature) == 0.0
    assert float(decided(policies.EDT(theta=0.0), certain).temperature) == pytest.approx(0.8)


def test_dynatemp_is_its_formula():
    temperature = decided(policies.DynaTemp(low=0.3, high=1.8, exponent=2.0)).temperature
    for i, row in enumerate(LOGITS):
        expected = 0.3 + 1.5 * (oracle.entropy(row.numpy()) / math.log(300)) ** 2
        assert float(temperature[i]) == pytest.approx(expected, rel=1e-5)


def test_mirostat_cuts_at_the_surprisal_it_remembers():
    policy = policies.Mirostat(target=1.5)
    kept = decided(policy).apply(LOGITS)
    for i, row in enumerate(LOGITS):
        surprisal = oracle.surprisals(row.numpy())
        assert pool(kept[i]) == {j for j in range(300) if surprisal[j] <= 3.0}


def test_mirostat_is_stateful_and_follows_its_feedback():
    policy = policies.Mirostat(target=1.5, rate=0.2)
    state = start(policy, 8, seed=0)
    for _ in range(3):
        before = state.policy.limit
        _, state, info = step(LOGITS, state, policy=policy)
        assert torch.allclose(state.policy.limit, before - 0.2 * (info.surprisal - 1.5))


@pytest.mark.parametrize("target", [1.2, 1.8])
def test_mirostat_holds_the_mean_surprisal(target):
    policy = policies.Mirostat(target=target)
    state, total = start(policy, 8, seed=0), 0.0
    for k in range(500):
        _, state, info = step(LOGITS[torch.randperm(8)] * 1.5, state, policy=policy)
        total += float(info.surprisal.mean()) if k >= 100 else 0.0
    assert abs(total / 400 - target) < MEAN_SURPRISAL_ERROR


def test_what_remembers():
    assert [policy.name for policy in EVERY if policy.remembers] == ["mirostat", "quadrant"]
    assert policies.Mirostat(target=torch.tensor([1.0, 2.0])).remembers


def test_mirostat_recovers_at_once_from_a_target_out_of_reach():
    policy = policies.Mirostat(target=0.01, rate=1.0)
    state = start(policy, 8, seed=0)
    for _ in range(20):
        _, state, _ = step(LOGITS * 0.01, state, policy=policy)
    assert (state.policy.limit == 0).all()


def test_aes_is_entmax_at_the_schedule_s_sparsity():
    schedule = SmoothStep(low=0.1, high=0.8, zeta_max=0.7)
    filtered = decided(policies.AESPolicy(schedule=schedule)).apply(LOGITS)
    zeta = schedule(gibbs_statistics(LOGITS))
    expected = entmax(LOGITS, zeta.unsqueeze(-1))
    torch.testing.assert_close(filtered.softmax(dim=-1), expected)
    assert torch.equal(filtered > -torch.inf, expected > 0)


def test_aes_with_a_schedule_of_one_s_own():
    policy = policies.AESPolicy(schedule=lambda statistics: statistics.max_prob)
    assert torch.equal(decided(policy).zeta, row_statistics(LOGITS).max_prob)
    with pytest.raises(ArgumentError, match=r"^`schedule`"):
        policy.to_config()


def test_aes_at_sparsity_0_changes_nothing():
    filtered = decided(policies.AESPolicy(schedule=Constant(zeta=0.0))).apply(LOGITS)
    torch.testing.assert_close(filtered.softmax(dim=-1), LOGITS.softmax(dim=-1))


def test_free_energy_meets_its_target_and_its_pool():
    policy = policies.FreeEnergy(target_entropy=1.5, excess=0.2)
    decision = decided(policy)
    tempered, temperature = decision.temper(LOGITS)
    assert (gibbs_statistics(tempered).entropy - 1.5).abs().max() <= ENTROPY_TARGET_ERROR
    kept = decision.apply(LOGITS)
    for i in range(len(LOGITS)):
        row = LOGITS[i].double().numpy() / float(temperature[i])
        assert pool(kept[i]) == oracle.top_p(row, math.exp(-0.2))


def test_a_decision_without_parameters_changes_nothing():
    assert torch.equal(Decision().apply(LOGITS), LOGITS)


def test_a_decision_s_rows_decide_as_they_did_together():
    decision = Decision(temperature=torch.linspace(0.5, 2, 8), top_k=torch.arange(1, 9), min_p=0.01)
    index = torch.tensor([6, 1])
    expected = decision.apply(LOGITS)[index]
    assert torch.equal(decision.rows(index).apply(LOGITS[index]), expected)


def test_no_policy_looks_at_logits_and_no_filter_at_statistics():
    from pathlib import Path

    import gibbsian.sampling as package

    folder = Path(package.__file__).parent
    for path in (folder / "policies").glob("*.py"):
        assert "logits:" not in path.read_text().replace("of the logits", ""), path
    for path in (folder / "filters").glob("*.py"):
        assert "GibbsStatistics" not in path.read_text(), path


def test_attention_signals_are_means_over_all_layers_and_heads_of_the_last_query():
    layers = [torch.rand(3, heads, 6, 5) for heads in (4, 2)]
    for layer in layers:
        layer[..., 4] = 10.0
    signals = AttentionSignals.from_layers(layers)
    last = torch.cat([layer[:, :, -1] for layer in layers], dim=1)
    torch.testing.assert_close(signals.entropy, last[..., 0].mean(dim=1))
    torch.testing.assert_close(signals.varentropy, last[..., 1].mean(dim=1))
    expected = (math.log(10) - last[..., 0]).mean(dim=1)
    torch.testing.assert_close(signals.interaction_strength, expected)
    assert ((signals.agreement >= 0) & (signals.agreement <= 1)).all()


def test_heads_that_look_alike_agree():
    layer = torch.zeros(2, 4, 1, 5)
    layer[..., 0], layer[..., 4] = 1.0, 8.0
    assert (AttentionSignals.from_layers([layer]).agreement == 1).all()
    layer[0, :2, 0, 0], layer[0, 2:, 0, 0] = 0.0, math.log(8)
    torch.testing.assert_close(
        AttentionSignals.from_layers([layer]).agreement, torch.tensor([0.0, 1.0])
    )


def test_attention_signals_need_a_layer():
    with pytest.raises(ArgumentError, match=r"^`layers`"):
        AttentionSignals.from_layers([])


def test_rows_of_attention_signals():
    layers = [torch.rand(3, 4, 6, 5)]
    signals = AttentionSignals.from_layers(layers)
    assert torch.equal(signals.rows(torch.tensor([2])).entropy, signals.entropy[2:])
