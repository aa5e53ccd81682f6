"""What each quadrant does, and what the adaptive policy does with attention."""

import math

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.sampling import Action, AttentionSignals, Thresholds, policies, start, step
from gibbsian.statistics import row_statistics
from tests.sampling.cases import pool


def row_of(branch):
    """Logits in a quadrant: of 4000 tokens."""
    logits = torch.full((4000,), -30.0)
    if branch == "flowing":
        logits[7] = 10.0
    elif branch == "treading":
        logits[:] = 0.0
    elif branch == "exploring":
        # one token of five times the weight of all others, which are flat: S = 1.8, V = 13.6
        logits[:] = 0.0
        logits[7] = math.log(20_000.0)
    elif branch == "mist":
        logits[:] = 0.0
        logits[7] = math.log(2500.0)
    return logits


BRANCHES = ("flowing", "treading", "exploring", "mist")
LOGITS = torch.stack([row_of(name) for name in BRANCHES])


def signals(**values):
    usual = {"entropy": 1.0, "varentropy": 1.0, "agreement": 0.5, "interaction_strength": 2.0}
    return AttentionSignals(
        **{name: torch.full((4,), value) for name, value in (usual | values).items()}
    )


def decided(policy, attention=None):
    return policy.decide(row_statistics(LOGITS), policy.start(4, "cpu"), attention)[0]


def test_branches_and_actions():
    policy = policies.Quadrant(insert_token=3)
    decision = decided(policy)
    assert [policy.branches[i] for i in decision.branch] == list(BRANCHES)
    assert decision.action.tolist() == [
        Action.GREEDY,
        Action.INSERT,
        Action.BRANCH,
        Action.RESAMPLE,
    ]
    kept = [pool(row) for row in decision.apply(LOGITS)]
    assert kept[0] == {7}
    assert kept[1] == {3}
    assert len(kept[2]) >= 1


def test_without_a_token_to_insert_treading_is_a_hotter_draw():
    decision = decided(policies.Quadrant())
    assert int(decision.action[1]) == Action.DRAW
    assert float(decision.temperature[1]) == pytest.approx(0.666 * 1.3)


def test_an_absent_token_is_not_inserted():
    policy = policies.Quadrant(insert_token=3)
    logits = LOGITS.clone()
    logits[1, 3] = -torch.inf
    decision, _ = policy.decide(row_statistics(logits), policy.start(4, "cpu"))
    assert 3 not in pool(decision.apply(logits)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_that_may_not_insert_is_told_as_drawn(dtype):
    policy = policies.Quadrant(insert_token=3)
    logits = LOGITS[[1, 1]].to(dtype)
    logits[1, 3] = -torch.inf
    token, state, info = step(logits, start(policy, 2, seed=0), policy=policy)
    assert info.action.tolist() == [Action.INSERT, Action.DRAW]
    assert (token == 3).tolist() == [True, False]
    _, _, info = step(logits, state, policy=policy)
    assert info.action.tolist() == [Action.DRAW, Action.DRAW]


def test_an_inserted_token_outside_the_vocabulary_is_an_error():
    policy = policies.Quadrant(insert_token=4000)
    with pytest.raises(ArgumentError, match=r"^`insert_token` must be a token of the vocabulary"):
        step(LOGITS, start(policy, 4, seed=0), policy=policy)


def test_temperatures_follow_the_attention():
    policy = policies.Quadrant()
    plain, seen = decided(policy), decided(policy, signals(entropy=2.0, varentropy=6.0))
    t = 0.666
    expected = [0.0, t * (1.3 + 0.4), t * (1.2 + 0.6), t * (2 + 3.0)]
    assert seen.temperature.tolist() == pytest.approx(expected, rel=1e-5)
    assert plain.temperature.tolist() == pytest.approx([0.0, t * 1.3, t * 1.2, 2.0], rel=1e-5)


def test_forks_grow_with_disagreement_and_mist_narrows_with_attention_entropy():
    policy = policies.Quadrant()
    agreeing, torn = (
        decided(policy, signals(agreement=1.0)),
        decided(policy, signals(agreement=0.0)),
    )
    assert agreeing.top_k[2] == 27
    assert torn.top_k[2] == round(27 * 1.5)
    vague = decided(policy, signals(entropy=1.0))
    assert float(vague.top_p[3]) == pytest.approx(0.7)
    assert float(decided(policy, signals(entropy=9.0)).top_p[3]) == pytest.approx(0.5)


def test_rows_outside_the_quadrants_take_the_first_candidate_only_where_it_is_scored():
    decision = decided(policies.Quadrant())
    assert decision.candidates == 5
    scores = decision.score(-torch.rand(4, 5))
    assert torch.equal(scores.argmax(dim=-1), torch.zeros(4, dtype=torch.int64))


def test_adaptive_is_hotter_where_the_row_is_unsure():
    decision = decided(policies.Adaptive())
    sure, unsure = decision.temperature[0], decision.temperature[3]
    assert float(sure) == pytest.approx(0.666, abs=1e-3)
    assert unsure > 1.2 * sure
    assert decision.min_p[3] < decision.min_p[0]


def test_adaptive_with_one_candidate_is_an_unbiased_draw_of_its_pool():
    policy = policies.Adaptive(candidates=1)
    state = start(policy, 4, seed=5)
    token = step(LOGITS, state, policy=policy).token
    from gibbsian.sampling import draw, uniforms

    kept = decided(policy).apply(LOGITS)
    assert torch.equal(token, draw(kept, uniforms(state.seed, state.count))[:, 0])


def test_adaptive_attention_terms_are_bounded():
    extreme = signals(entropy=100.0, varentropy=1e6, agreement=0.0, interaction_strength=0.0)
    decision = decided(policies.Adaptive(), extreme)
    assert (decision.temperature <= 0.666 * (1 + 0.6 + 0.2) + 1e-6).all()
    assert (decision.top_p <= 1).all()
    assert (decision.top_k <= decision.top_k_bound).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Thresholds(entropy_low=3.0, entropy_high=1.0), r"^`entropy_low` and"),
        (lambda: Thresholds(varentropy_low=-1.0), r"^`varentropy_low` and"),
        (lambda: Thresholds(entropy_low=float("nan")), r"^`entropy_low` and"),
        (lambda: Thresholds(entropy_high=50.0), r"^`entropy_high` must be at most 20"),
        (lambda: policies.Quadrant(insert_token=-1), r"^`insert_token`"),
        (lambda: policies.Quadrant(top_k=0), r"^`top_k`"),
        (lambda: policies.Quadrant(treading_heat=0.0), r"^`treading_heat`"),
        (lambda: policies.Adaptive(candidates=0), r"^`candidates`"),
        (lambda: policies.Adaptive(temperature=0.0), r"^`temperature`"),
        (lambda: Thresholds.from_config({"unit": "nats"}), r"^`thresholds` must have"),
    ],
)
def test_bad_parameters_are_one_line_errors(make, message):
    with pytest.raises(ArgumentError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)
