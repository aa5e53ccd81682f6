"""The processor by itself, called as llama-cpp-python calls it."""

import numpy as np
import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.integrations.llama_cpp import EntropicLogitsProcessor, ProcessorList
from gibbsian.sampling import start, step
from gibbsian.sampling.policies import AESPolicy, Fixed, Mirostat, Quadrant
from gibbsian.statistics import row_statistics
from tests.sampling.policies.cases import EVERY
from tests.tolerances import assert_same

STATES = 300


def view_of(row):
    """Scores as llama.cpp keeps them: a field of records, which it writes again at every step."""
    kinds = np.dtype([("id", np.intc), ("logit", np.single), ("p", np.single)], align=True)
    records = np.zeros(len(row), dtype=kinds)
    records["logit"] = row
    return records["logit"]


@pytest.fixture
def steps():
    return torch.randn(6, STATES) * 3


def written(processor, steps, prompt=(1, 2, 3)):
    """Greedy tokens of what the processor leaves, and what it left."""
    memory = np.zeros(64, dtype=np.intc)
    memory[: len(prompt)] = prompt
    length, rows = len(prompt), []
    for logits in steps:
        rows.append(torch.from_numpy(processor(memory[:length], view_of(logits.numpy()))))
        memory[length] = int(rows[-1].argmax())
        length += 1
    return memory[len(prompt) : length].tolist(), torch.stack(rows)


@pytest.mark.parametrize("policy", EVERY, ids=lambda p: p.name)
def test_a_seed_draws_as_step_does(policy, steps):
    tokens, rows = written(EntropicLogitsProcessor(policy, seed=7), steps)
    state, expected = start(policy, 1, seed=7), []
    for logits in steps:
        result = step(logits[None], state, policy=policy)
        state = result.state
        expected.append(int(result.token))
    assert tokens == expected
    assert (rows > -torch.inf).sum(dim=-1).eq(1).all()


def test_any_map_is_a_schedule(steps):
    policy = AESPolicy(schedule=lambda statistics: statistics.max_prob)
    _, rows = written(EntropicLogitsProcessor(policy, states=STATES), steps)
    decision, _ = policy.decide(row_statistics(steps), policy.start(len(steps), "cpu"))
    assert_same(rows, decision.apply(steps))


@pytest.mark.parametrize("seed", [None, 4])
def test_another_text_begins_anew(steps, seed):
    processor = EntropicLogitsProcessor(Mirostat(target=2.0), seed=seed)
    first = written(processor, steps)
    again = written(processor, steps)
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    # other tokens before it make it another text, whatever its length
    other = written(processor, steps, prompt=(9, 9))
    fresh = written(EntropicLogitsProcessor(Mirostat(target=2.0), seed=seed), steps, (9, 9))
    assert torch.equal(other[1], fresh[1])


def test_another_text_in_the_same_memory_begins_anew():
    flat, memory = np.zeros(STATES, dtype=np.float32), np.array([1, 2, 3, 0], dtype=np.intc)
    for seed in range(3):
        processor = EntropicLogitsProcessor(Fixed(), seed=seed)
        first = processor(memory[:3], flat)
        memory[:] += 5
        assert np.array_equal(processor(memory, flat), first)
        memory[3] += 1
        assert np.array_equal(processor(memory, flat), first)


def test_the_token_that_was_taken_is_remembered(steps):
    policy = Mirostat(target=1.0, rate=0.9)
    processor = EntropicLogitsProcessor(policy)
    processor(np.array([1], dtype=np.intc), view_of(steps[0].numpy()))
    unlikely = int(steps[0].argmin())
    kept = processor(np.array([1, unlikely], dtype=np.intc), view_of(steps[1].numpy()))

    _, state = policy.decide(row_statistics(steps[:1]), policy.start(1, "cpu"))
    surprisal = -steps[:1].log_softmax(dim=-1)[:, unlikely]
    decision, _ = policy.decide(row_statistics(steps[1:2]), policy.observe(state, surprisal))
    assert_same(torch.from_numpy(kept), decision.apply(steps[1:2])[0])


def test_scores_are_not_written_to(steps):
    scores = view_of(steps[0].numpy())
    kept = EntropicLogitsProcessor(Fixed(top_k=2))(np.array([1], dtype=np.intc), scores)
    assert kept.dtype == np.float32
    assert np.isfinite(kept).sum() == 2
    assert np.isfinite(scores).all()


def test_what_does_not_fit_is_refused_at_once():
    with pytest.raises(ArgumentError, match="insert_token"):
        EntropicLogitsProcessor(Quadrant(insert_token=STATES), states=STATES)
    with pytest.raises(ArgumentError, match="one number for each"):
        EntropicLogitsProcessor(Fixed(temperature=torch.tensor([0.5, 1.0])))


def test_a_bias_is_refused_not_forgotten():
    processors = ProcessorList([EntropicLogitsProcessor(Fixed())])
    with pytest.raises(ArgumentError, match="logit_bias"):
        processors.extend([lambda _, scores: scores])
