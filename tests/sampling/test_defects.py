"""Defects of published entropic samplers, each by name: none of them is here."""

import numpy as np
import pytest
import torch
from scipy import stats

from gibbsian._errors import ArgumentError
from gibbsian.attention import AttentionStatistics, attention_row_statistics
from gibbsian.sampling import (
    Action,
    AttentionSignals,
    Decision,
    Thresholds,
    draw,
    policies,
    start,
    step,
    uniforms,
)
from gibbsian.statistics import GibbsStatistics, row_statistics
from tests.oracles import sampling as oracle
from tests.sampling.cases import pool, rows
from tests.tolerances import GOODNESS_OF_FIT_FAILURE_RATE

LOGITS = torch.randn(16, 200, generator=torch.Generator().manual_seed(3)) * 2


def stacked_statistics(keys, mask=None):
    """Compact statistics of one attention layer, (batch, heads, queries, 5)."""
    query = torch.randn(2, 4, 1, 8, generator=torch.Generator().manual_seed(4))
    statistics = attention_row_statistics(query, keys, mask=mask)
    zero = torch.zeros_like(statistics.entropy)
    return AttentionStatistics(
        entropy=statistics.entropy,
        varentropy=statistics.varentropy,
        zeta=zero,
        support_size=statistics.num_states,
        num_keys=statistics.num_states,
    ).stack()


def test_attention_statistics_over_the_padding_of_the_cache():
    keys = torch.randn(2, 4, 6, 8)
    exact = AttentionSignals.from_layers([stacked_statistics(keys)])
    padded = torch.cat([keys, torch.zeros(2, 4, 100, 8)], dim=2)
    mask = torch.arange(106) < 6
    masked = AttentionSignals.from_layers([stacked_statistics(padded, mask[None, None, None])])
    for name in ("entropy", "varentropy", "agreement", "interaction_strength"):
        torch.testing.assert_close(getattr(masked, name), getattr(exact, name))


def test_heads_that_see_no_key_are_left_out():
    layer = torch.rand(2, 4, 1, 5)
    layer[..., 4] = 7.0
    exact = AttentionSignals.from_layers([layer])
    empty = torch.zeros(2, 3, 1, 5)
    with_empty = AttentionSignals.from_layers([torch.cat([layer, empty], dim=1)])
    torch.testing.assert_close(with_empty.entropy, exact.entropy)
    torch.testing.assert_close(with_empty.agreement, exact.agreement)


@pytest.mark.parametrize("policy", [policies.Quadrant(), policies.Adaptive(), policies.EDT()])
def test_statistics_averaged_over_the_batch(policy):
    signals = AttentionSignals(
        entropy=torch.rand(16),
        varentropy=torch.rand(16),
        agreement=torch.rand(16),
        interaction_strength=torch.rand(16),
    )
    together, _ = policy.decide(row_statistics(LOGITS), policy.start(16, "cpu"), signals)
    for i in range(16):
        index = torch.tensor([i])
        alone, _ = policy.decide(
            row_statistics(LOGITS[i : i + 1]), policy.start(1, "cpu"), signals.rows(index)
        )
        assert torch.equal(alone.apply(LOGITS[index]), together.apply(LOGITS)[index])
    assert len(set(together.temperature.tolist())) > 1


def test_bits_and_nats_mixed():
    info = step(LOGITS, start(policies.Fixed(), 16, seed=0), policy=policies.Fixed()).info
    for i, row in enumerate(LOGITS):
        assert float(info.entropy[i]) == pytest.approx(oracle.entropy(row.numpy()), rel=1e-5)
    with pytest.raises(ArgumentError, match=r"^`unit` of thresholds must be 'nats', got 'bits'"):
        Thresholds.from_config({**Thresholds().to_config(), "unit": "bits"})
    with pytest.raises(ArgumentError, match=r"^`unit` of thresholds must be 'nats', got None"):
        policies.policy_from_config({"name": "quadrant", "thresholds": {"entropy_low": 0.1}})
    # Entropix' 5 bits
    assert Thresholds().entropy_high == pytest.approx(3.4657, abs=1e-4)


def test_a_fixed_default_random_key():
    policy = policies.Fixed()
    flat = torch.zeros(1, 10_000)
    tokens = {int(step(flat, start(policy, 1), policy=policy).token) for _ in range(20)}
    assert len(tokens) > 15
    state, tokens = start(policy, 1, seed=0), set()
    for _ in range(20):
        token, state, _ = step(flat, state, policy=policy)
        tokens.add(int(token))
    assert len(tokens) > 15


def test_exponential_race_with_a_uniform_variate():
    """Argmax of p / u is biased to the probable: with p = (0.8, 0.2) it takes the first 7/8."""
    count = 100_000
    logits = torch.tensor([[0.8, 0.2]]).log().expand(count, 2)
    seeds = torch.arange(count)
    tokens = draw(logits, uniforms(seeds, torch.zeros_like(seeds)))[:, 0]
    p_value = stats.binomtest(int((tokens == 0).sum()), count, 0.8).pvalue
    assert p_value > GOODNESS_OF_FIT_FAILURE_RATE


@pytest.mark.parametrize(
    "policy",
    [
        policies.Fixed(min_p=0.3),
        policies.DynaTemp(min_p=0.3),
        policies.Quadrant(min_p=0.3, adaptive=policies.Adaptive(min_p=0.3)),
    ],
)
def test_min_p_computed_and_not_applied(policy):
    decision, _ = policy.decide(row_statistics(LOGITS), policy.start(16, "cpu"))
    tempered, temperature = decision.temper(LOGITS)
    kept = decision.apply(LOGITS)
    level = torch.as_tensor(decision.min_p).expand(16)
    assert (level >= 0.15).all()
    for i in range(16):
        if float(temperature[i]) > 0:
            p = oracle.probabilities(tempered[i].numpy())
            smallest = min(p[list(pool(kept[i]))])
            assert smallest >= float(level[i]) * p.max() * (1 - 1e-6)


def test_top_p_accumulated_from_the_improbable_tokens():
    """Entropix flips the sorted probabilities and keeps the tail; the head is the pool."""
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert pool(Decision(top_p=0.6).apply(logits)[0]) == {0, 1}
    assert pool(Decision(top_k=4, top_p=0.6).apply(logits)[0]) == {0, 1}


def test_candidate_scores_that_are_constant_across_candidates():
    policy = policies.Adaptive()
    decision, _ = policy.decide(row_statistics(LOGITS), policy.start(16, "cpu"))
    log_probs = LOGITS.log_softmax(dim=-1).sort(dim=-1, descending=True).values[:, :20]
    scores = decision.score(log_probs)
    assert (scores.std(dim=-1) > 0.01).all()
    # and not by the log-probability alone: the order differs from it in some row
    assert not torch.equal(scores.argsort(dim=-1), log_probs.argsort(dim=-1))


def test_log_of_a_log_probability():
    policy = policies.Adaptive()
    decision, _ = policy.decide(row_statistics(LOGITS), policy.start(16, "cpu"))
    log_probs = LOGITS.log_softmax(dim=-1)[:, :5]
    scores = decision.score(log_probs)
    assert scores.isfinite().all()
    a, b = decision.confidence[:, None], decision.typicality[:, None]
    entropy = torch.tensor([[oracle.entropy(row.numpy())] for row in LOGITS])
    expected = a * log_probs - b * (-log_probs - entropy).abs()
    torch.testing.assert_close(scores, expected.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "policy", [policies.Quadrant(insert_token=2), policies.Adaptive()], ids=lambda p: p.name
)
def test_nan_on_masked_rows(policy):
    logits = rows(12, 200)
    logits[9, 5:] = -torch.inf
    token, _, info = step(logits, start(policy, 12, seed=0), policy=policy)
    assert (logits.gather(-1, token[:, None]) > -torch.inf).all()
    for name in ("entropy", "varentropy", "temperature", "surprisal"):
        assert getattr(info, name).isfinite().all()


def test_the_middle_threshold_that_an_earlier_branch_shadows():
    """In Entropix a high S with a high V can be caught by the branch for low S."""
    seen = {}
    for entropy in (0.01, 3.0, 6.0):
        for varentropy in (0.01, 1.0, 9.0):
            statistics = statistics_at(entropy, varentropy)
            policy = policies.Quadrant()
            decision, _ = policy.decide(statistics, policy.start(1, "cpu"))
            seen[entropy, varentropy] = policy.branches[int(decision.branch)]
    assert seen == {
        (0.01, 0.01): "flowing",
        (0.01, 1.0): "adaptive",
        (0.01, 9.0): "exploring",
        (3.0, 0.01): "adaptive",
        (3.0, 1.0): "adaptive",
        (3.0, 9.0): "exploring",
        (6.0, 0.01): "treading",
        (6.0, 1.0): "adaptive",
        (6.0, 9.0): "mist",
    }


def statistics_at(entropy, varentropy):
    """Statistics of a row with these two; the rest is arbitrary."""
    one = torch.ones(1)
    return GibbsStatistics(
        max_score=one,
        min_entropy=one,
        collision_entropy=one,
        entropy=torch.tensor([entropy]),
        varentropy=torch.tensor([varentropy]),
        third_cumulant=one,
        num_states=torch.tensor([1000.0]),
        temperature=one,
    )


def test_bfloat16_statistics():
    """Arithmetic in bfloat16 is off by 0.1 nat on a large vocabulary."""
    logits = (torch.randn(1, 128_000) * 2).bfloat16()
    exact = oracle.entropy(logits[0].float().numpy())
    info = step(logits, start(policies.Fixed(), 1, seed=0), policy=policies.Fixed()).info
    assert abs(float(info.entropy) - exact) < 1e-4
    log_probs = logits.log_softmax(dim=-1)
    assert abs(float(-(log_probs.exp() * log_probs).sum()) - exact) > 0.01


def test_an_inserted_token_is_not_inserted_again():
    policy = policies.Quadrant(insert_token=5)
    state = policy.start(1, "cpu")
    actions = []
    for _ in range(4):
        decision, state = policy.decide(statistics_at(6.0, 0.01), state)
        actions.append(int(decision.action))
    assert actions == [Action.INSERT, Action.DRAW, Action.INSERT, Action.DRAW]
    assert np.isfinite(float(decision.temperature))
