"""A step is pure, seeded, and each row is alone in it."""

import inspect
import json

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.sampling import policies, start, step
from gibbsian.sampling.filters import MinP, TopP
from gibbsian.statistics import row_statistics
from tests.oracles import sampling as oracle
from tests.sampling.cases import pool, rows
from tests.sampling.policies.cases import EVERY

BATCH, STATES = 12, 400


def run(policy, logits, steps, state):
    """Tokens (steps, batch) of a fixed sequence of logits."""
    tokens = []
    for k in range(steps):
        token, state, _ = step(logits[k], state, policy=policy)
        tokens.append(token)
    return torch.stack(tokens)


@pytest.fixture
def sequence():
    return torch.stack([rows(BATCH, STATES)[torch.randperm(BATCH)] for _ in range(6)])


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_the_same_seed_gives_the_same_tokens_and_another_others(policy, sequence):
    first = run(policy, sequence, 6, start(policy, BATCH, seed=3))
    assert torch.equal(first, run(policy, sequence, 6, start(policy, BATCH, seed=3)))
    others = [run(policy, sequence, 6, start(policy, BATCH, seed=s)) for s in (4, 5)]
    assert any(not torch.equal(first, other) for other in others)


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_a_row_s_tokens_do_not_depend_on_the_batch(policy, sequence):
    begun = start(policy, BATCH, seed=3)
    together = run(policy, sequence, 6, begun)
    for chosen in ([5], [11, 0, 7], list(reversed(range(BATCH)))):
        index = torch.tensor(chosen)
        alone = run(policy, sequence[:, index], 6, begun.rows(index))
        assert torch.equal(alone, together[:, index])


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_nor_on_the_threads_that_share_a_long_row(policy):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    logits = torch.randn(5, 70_000) * 3
    begun = start(policy, 5, seed=3)
    kept = policy.decide(row_statistics(logits), begun.policy)[0].apply(logits)
    token, _, info = step(logits, begun, policy=policy)
    for i in range(5):
        index = torch.tensor([i])
        alone, _, told = step(logits[index], begun.rows(index), policy=policy)
        assert torch.equal(alone, token[index])
        for name in ("entropy", "varentropy", "temperature", "zeta", "kept", "surprisal"):
            assert torch.equal(getattr(told, name), getattr(info, name)[index])
        state = begun.rows(index).policy
        single = policy.decide(row_statistics(logits[index]), state)[0].apply(logits[index])
        assert torch.equal(single, kept[index])
    torch.set_num_threads(before)


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_rows_may_come_and_go(policy, sequence):
    state = start(policy, BATCH, seed=3)
    together = run(policy, sequence, 6, state)
    _, after, _ = step(sequence[0], state, policy=policy)
    index = torch.tensor([4, 2])
    later = run(policy, sequence[1:, index], 5, after.rows(index))
    assert torch.equal(later, together[1:, index])


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_what_a_step_tells(policy, sequence):
    logits = sequence[0]
    state = start(policy, BATCH, seed=1)
    before = state.count.clone()
    token, after, info = step(logits, state, policy=policy)
    assert torch.equal(state.count, before)
    assert torch.equal(after.count, before + 1)
    for i in range(BATCH):
        row = logits[i].numpy()
        assert float(info.entropy[i]) == pytest.approx(oracle.entropy(row), abs=1e-4)
        surprisal = oracle.surprisals(row)[int(token[i])]
        assert float(info.surprisal[i]) == pytest.approx(surprisal, abs=1e-3, rel=1e-5)
    decision, _ = policy.decide(row_statistics(logits), state.policy)
    kept = decision.apply(logits)
    assert info.kept.tolist() == [len(pool(row)) for row in kept]
    assert (kept.gather(-1, token[:, None]) > -torch.inf).all()
    assert (info.kept >= 1).all()
    assert (info.branch < len(policy.branches)).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_logits_are_one_line_errors(bad):
    policy = policies.Fixed(top_p=0.9)
    logits = rows(BATCH, STATES)
    logits[4, 9] = bad
    with pytest.raises(ArgumentError, match=r"^`logits` must be finite or -inf .*row 4") as raised:
        step(logits, start(policy, BATCH, seed=0), policy=policy)
    assert "\n" not in str(raised.value)


def test_a_row_without_any_token_is_an_error():
    policy = policies.Fixed()
    logits = rows(BATCH, STATES)
    logits[2] = -torch.inf
    with pytest.raises(ArgumentError, match=r"no token at all .*row 2"):
        step(logits, start(policy, BATCH, seed=0), policy=policy)


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_without_validation_a_bad_row_harms_no_other(policy):
    logits = rows(BATCH, STATES)
    begun = start(policy, BATCH, seed=0)
    expected = step(logits, begun, policy=policy).token
    logits[4, 9] = torch.nan
    logits[6] = -torch.inf
    token = step(logits, begun, policy=policy, validate=False).token
    good = [i for i in range(BATCH) if i not in (4, 6)]
    assert torch.equal(token[good], expected[good])
    assert ((token >= 0) & (token < STATES)).all()


def test_temperature_0_is_greedy():
    policy = policies.Fixed(temperature=0.0)
    logits = rows(BATCH, STATES)
    token, _, info = step(logits, start(policy, BATCH, seed=0), policy=policy)
    assert torch.equal(token, logits.argmax(dim=-1))
    assert (info.temperature == 0).all()
    assert (info.kept == 1).all()


def test_top_p_0_is_the_argmax():
    policy = policies.Fixed(top_p=0.0)
    logits = rows(BATCH, STATES)
    token = step(logits, start(policy, BATCH, seed=0), policy=policy).token
    assert torch.equal(token, logits.argmax(dim=-1))


def test_a_generator_takes_the_place_of_the_streams():
    policy = policies.Fixed()
    logits, state = rows(BATCH, STATES), start(policy, BATCH, seed=0)
    tokens = [
        step(logits, state, policy=policy, generator=torch.Generator().manual_seed(s)).token
        for s in (1, 1, 2)
    ]
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])


def test_half_precision_logits():
    policy = policies.Fixed(min_p=0.1)
    logits = torch.randn(3, 50_000).bfloat16()
    _, _, info = step(logits, start(policy, 3, seed=0), policy=policy)
    for i in range(3):
        expected = oracle.entropy(logits[i].float().numpy())
        assert float(info.entropy[i]) == pytest.approx(expected, abs=1e-4)


def test_a_state_of_another_size_is_an_error():
    policy = policies.Fixed()
    with pytest.raises(ArgumentError, match=r"^`state` must have one entry"):
        step(rows(BATCH, STATES), start(policy, 3, seed=0), policy=policy)
    with pytest.raises(ArgumentError, match=r"^`seed` must have one number"):
        start(policy, 3, seed=torch.arange(4))


def test_parameters_of_each_row():
    logits = rows(BATCH, STATES)
    top_p = torch.linspace(0.1, 0.9, BATCH, dtype=torch.float64)
    policy = policies.Fixed(top_p=top_p, min_p=0.01)
    _, _, info = step(logits, start(policy, BATCH, seed=0), policy=policy)
    for i in range(BATCH):
        alone = MinP(min_p=0.01)(TopP(p=float(top_p[i]))(logits[i : i + 1]))
        assert int(info.kept[i]) == len(pool(alone[0]))


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_a_policy_survives_json(policy, sequence):
    rebuilt = policies.policy_from_config(json.loads(json.dumps(policy.to_config())))
    assert type(rebuilt) is type(policy)
    first = run(policy, sequence, 6, start(policy, BATCH, seed=3))
    assert torch.equal(first, run(rebuilt, sequence, 6, start(rebuilt, BATCH, seed=3)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "nothing"}, "^`name` of a policy must be one of .*'edt'"),
        ({}, "^`name` of a policy must be one of"),
        ({"name": "fixed", "top_q": 1.0}, "^`top_q` is not an option of policy 'fixed'"),
        ({"name": "fixed", "top_p": 1.5}, "^`p` must lie in"),
        ({"name": "free-energy"}, "^`target_entropy` or `excess` must be given"),
        ({"name": "dynatemp", "low": 2.0, "high": 1.0}, "^`low` and `high` must satisfy"),
        ({"name": "mirostat", "target": 0.0}, "^`target` must be a finite number > 0"),
        ({"name": "edt", "base": 1.0}, "^`base` must lie in"),
    ],
)
def test_bad_descriptions_are_one_line_errors(config, message):
    with pytest.raises(ArgumentError, match=message) as raised:
        policies.policy_from_config(config)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("temperature", [1e20, 1e39, 1e300])
def test_a_huge_temperature_is_uniform(temperature):
    logits = torch.tensor([[30.0, -torch.inf, 0.0, -30.0]])
    per_row = policies.Fixed(temperature=torch.tensor([temperature], dtype=torch.float64))
    for policy in (policies.Fixed(temperature=temperature), per_row):
        decision, _ = policy.decide(row_statistics(logits), policy.start(1, "cpu"))
        found = decision.apply(logits).softmax(dim=-1)
        torch.testing.assert_close(found, torch.tensor([[1, 0, 1, 1]]) / 3)
        _, _, info = step(logits, start(policy, 1, seed=1), policy=policy)
        assert int(info.kept) == 3


def test_what_is_no_batch_no_policy_or_no_seed_is_one_line():
    policy = policies.Fixed()
    with pytest.raises(ArgumentError, match=r"must be \(batch, states\), got shape \(5,\)"):
        inspect.unwrap(step)(torch.zeros(5), start(policy, 1, seed=0), policy=policy)
    for wrong, message in (
        ({"policy": "edt", "batch_size": 1}, "`policy_from_text` makes one"),
        ({"policy": policy, "batch_size": 1, "seed": 1.5}, "`seed` must be an integer, got 1.5"),
    ):
        with pytest.raises(ArgumentError, match=message):
            inspect.unwrap(start)(**wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.bool])
def test_seeds_that_are_no_integers_are_one_line(dtype):
    seeds = torch.tensor([1.5, 1.2]).to(dtype)
    with pytest.raises(ArgumentError, match=r"^`seed` must be a tensor of integers, got torch"):
        inspect.unwrap(start)(policies.Fixed(), 2, seed=seeds)
