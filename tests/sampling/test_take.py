"""The compiled step takes the reference's tokens from the reference's pools, bit for bit."""

import pytest
import torch

from gibbsian._errors import BackendUnavailableError
from gibbsian.sampling import Action, Decision, start, uniforms
from gibbsian.sampling.cpu import layout
from gibbsian.sampling.cpu.rows import take_rows
from gibbsian.sampling.take import take
from gibbsian.statistics import row_statistics
from tests.sampling.cases import rows
from tests.sampling.policies.cases import EVERY
from tests.tolerances import DOUBTFUL_SHARE

BATCH = 12
DECISIONS = {
    "nothing": Decision(),
    "greedy": Decision(temperature=0.0, top_p=0.5),
    "cold": Decision(temperature=1e-3),
    "hot": Decision(temperature=1e3, min_p=0.2),
    "top_k": Decision(top_k=5),
    "all of them": Decision(top_k=10**6, top_p=1.0, min_p=0.0),
    "top_p": Decision(top_p=0.9),
    "a little": Decision(top_p=0.01),
    "nothing of it": Decision(top_p=0.0),
    "nearly all": Decision(temperature=0.5, top_p=0.999),
    "min_p": Decision(min_p=0.05),
    "only ties": Decision(min_p=1.0),
    "far": Decision(min_p=1e-20),
    "usual": Decision(temperature=0.7, top_k=40, top_p=0.95, min_p=0.01),
    "epsilon": Decision(epsilon=1e-3),
    "large epsilon": Decision(epsilon=0.9),
    "entmax": Decision(zeta=0.3),
    "sparsemax": Decision(temperature=0.8, zeta=1.0),
    "softmax": Decision(zeta=0.0),
    "target": Decision(target_entropy=1.0, top_p=0.9),
    "candidates": Decision(candidates=7, top_k=30, confidence=0.7, typicality=0.3),
    "rows": Decision(
        temperature=torch.linspace(0.0, 2.0, BATCH),
        top_k=torch.linspace(1, 60, BATCH),
        top_k_bound=50,
        top_p=torch.linspace(-0.1, 1.1, BATCH, dtype=torch.float64),
        min_p=torch.linspace(-0.1, 1.1, BATCH),
        candidates=3,
        confidence=torch.linspace(0, 1, BATCH),
        typicality=torch.linspace(1, 0, BATCH),
        expected_surprisal=torch.linspace(0, 4, BATCH),
    ),
    "inserting": Decision(
        action=torch.tensor([int(Action.INSERT), int(Action.DRAW)] * 6), insert_token=0, min_p=0.1
    ),
}
OUT_OF_RANGE = {
    "temperature": torch.nan,
    "top_k": torch.nan,
    "top_p": torch.nan,
    "min_p": torch.nan,
    "epsilon": torch.nan,
    "zeta": 1.5,
}


def both(logits, decision, seed=0, **options):
    """What the reference takes, and what the kernels do."""
    statistics, state = row_statistics(logits), start(EVERY[0], len(logits), seed=seed)
    return [
        take(logits, statistics, decision, state.seed, state.count, backend=backend, **options)
        for backend in ("reference", "cpu")
    ]


def assert_equal(found):
    expected, actual = found
    for name in expected._fields:
        assert torch.equal(getattr(actual, name), getattr(expected, name)), name
        assert getattr(actual, name).dtype == getattr(expected, name).dtype, name


def doubtful(logits, decision, seed=0):
    """Share of the rows that the kernels leave to the reference."""
    statistics, state = row_statistics(logits), start(EVERY[0], len(logits), seed=seed)
    about = (statistics.max_score, statistics.min_entropy, decision)
    integers, _, _ = take_rows(logits, *about, state.seed, state.count, None)
    return integers[layout.DOUBTFUL].mean()


@pytest.mark.parametrize("states", [1, 2, 63, 64, 65, 257, 5000])
@pytest.mark.parametrize("name", DECISIONS)
def test_tokens_and_pools_are_the_reference_s(name, states):
    decision = DECISIONS[name]
    for seed in range(3):
        logits = rows(BATCH, max(states, 8))[:, :states].contiguous()
        logits[:, 0] = logits[:, 0].clamp_min(-5.0)
        assert_equal(both(logits, decision, seed))
        # a few levels only: many equal scores, at the edges too
        assert_equal(both((logits * 2).round() / 2, decision, seed))
        assert_equal(both(logits.bfloat16(), decision, seed))


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_every_policy_s(policy, batch):
    for seed in range(4):
        logits = torch.randn(batch, 2000) * torch.linspace(0.5, 6, batch).unsqueeze(-1)
        decision, _ = policy.decide(
            row_statistics(logits), policy.start(batch, "cpu"), attention=None
        )
        assert_equal(both(logits, decision, seed))


@pytest.mark.parametrize("name", DECISIONS)
def test_what_is_left_of_the_logits(name):
    decision = DECISIONS[name]
    for logits in (rows(BATCH, 700), rows(BATCH, 700).round()):
        logits[:, 0] = logits[:, 0].clamp_min(-5.0)
        expected, _ = decision.left(logits)
        assert torch.equal(decision.apply(logits), expected)


@pytest.mark.parametrize("name", [n for n in DECISIONS if n not in ("only ties", "rows")])
def test_few_rows_are_left_to_the_reference(name):
    logits = torch.randn(BATCH, 5000) * 4
    shares = [doubtful(logits + torch.randn(1), DECISIONS[name], seed) for seed in range(20)]
    assert sum(shares) / len(shares) <= DOUBTFUL_SHARE


def test_a_score_on_the_edge_is_left_to_the_reference():
    decision = Decision(min_p=0.1)
    logits = torch.full((BATCH, 300), -20.0)
    logits[:, 7], logits[:, 9] = 0.0, torch.tensor(0.1).log()
    assert doubtful(logits, decision) == 1.0
    assert_equal(both(logits, decision))
    logits[:, 9] += 1e-4
    assert doubtful(logits, decision) == 0.0


def test_a_number_on_the_edge_of_two_tokens_is_left_to_the_reference():
    logits = torch.full((BATCH, 300), -torch.inf)
    logits[:, 7] = logits[:, 9] = 1.0
    for point, token in ((0.5 - 1e-7, 7), (0.5, 9), (0.5 + 1e-7, 9)):
        uniform = torch.full((BATCH, 1), point, dtype=torch.float64)
        expected, actual = both(logits, Decision(), uniform=uniform)
        assert expected.token.tolist() == actual.token.tolist() == [token] * BATCH


def test_the_streams_numbers_are_the_same():
    logits, decision = rows(BATCH, 300), Decision(candidates=5)
    statistics = row_statistics(logits)
    seed, count = torch.randint(-(2**62), 2**62, (2, BATCH))
    about = (statistics.max_score, statistics.min_entropy, decision)
    *_, drawn = take_rows(logits, *about, seed, count, None)
    assert torch.equal(torch.from_numpy(drawn), uniforms(seed, count, 5))


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_number_out_of_range_is_left_to_the_reference(name):
    given = torch.full((BATCH,), 0.5)
    given[4] = OUT_OF_RANGE[name]
    decision = Decision(**{name: given})
    logits = rows(BATCH, 300)
    expected, actual = both(logits, decision)
    good = [i for i in range(BATCH) if i != 4]
    assert torch.equal(actual.token, expected.token)
    assert torch.equal(actual.kept[good], expected.kept[good])


@pytest.mark.parametrize(
    "decision",
    [
        Decision(top_h=0.5),
        Decision(top_n_sigma=1.0),
        Decision(typical=0.5),
        Decision(eta=0.01),
        Decision(p_less=True),
        Decision(top_k=257),
        Decision(epsilon=0.01, temperature=0.5),
        Decision(epsilon=0.01, top_k=5),
        Decision(zeta=0.5, min_p=0.1),
        Decision(min_p=torch.tensor(0.1)),
    ],
)
def test_what_the_kernels_cannot_do(decision):
    logits = rows(BATCH, 300)
    with pytest.raises(BackendUnavailableError, match="cannot run here"):
        both(logits, decision)
