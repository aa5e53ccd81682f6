"""llama.cpp itself writes with policies: SmolLM2, 4 bits, as its package has it."""

import time

import numpy as np
import pytest
import torch
from scipy import stats

from gibbsian._errors import ArgumentError, DataError
from gibbsian.experiments.pretrained import smollm2_gguf
from gibbsian.integrations.llama_cpp import NEUTRAL, EntropicLogitsProcessor, ProcessorList
from gibbsian.sampling import Thresholds, start, step
from gibbsian.sampling.policies import EDT, Fixed, Mirostat, Quadrant
from gibbsian.statistics import row_statistics
from tests.tolerances import GOODNESS_OF_FIT_FAILURE_RATE

pytestmark = [pytest.mark.engine, pytest.mark.slow]
llama_cpp = pytest.importorskip("llama_cpp")

PROMPT = "The old house stood"
LEVELS = Thresholds(entropy_low=0.5, entropy_high=2.0, varentropy_low=0.5, varentropy_high=2.0)
POLICIES = [
    EDT(),
    Mirostat(target=2.0),
    # a comma is inserted after the first step of high entropy and low varentropy
    Quadrant(thresholds=LEVELS, insert_token=28),
]


def packaged():
    try:
        return smollm2_gguf()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def llama():
    return llama_cpp.Llama(str(packaged()), n_ctx=256, n_threads=1, verbose=False)


class Spy:
    """Keeps what passes."""

    def __init__(self):
        self.tokens, self.rows = [], []

    def __call__(self, input_ids, scores):
        self.tokens.append(np.array(input_ids))
        self.rows.append(torch.from_numpy(np.array(scores)))
        return scores


def write(llama, *processors, prompt=PROMPT, length=16, **options):
    options = NEUTRAL | {"max_tokens": length} | options
    if processors:
        options["logits_processor"] = ProcessorList(processors)
    return llama.create_completion(prompt, **options)["choices"][0]["text"]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_its_draws_are_of_what_the_policy_leaves(llama, policy):
    before, after = Spy(), Spy()
    write(llama, before, EntropicLogitsProcessor(policy, states=llama.n_vocab()), after, seed=5)
    assert len(after.rows) == 16
    taken = [int(tokens[-1]) for tokens in after.tokens[1:]]
    state = policy.start(1, "cpu")
    for t, (logits, kept) in enumerate(zip(before.rows, after.rows, strict=True)):
        assert logits.shape == (llama.n_vocab(),)
        assert logits.dtype == torch.float32
        statistics = row_statistics(logits[None])
        assert bool(statistics.entropy.isfinite() & statistics.varentropy.isfinite())
        decision, state = policy.decide(statistics, state)
        assert torch.equal(kept, decision.apply(logits[None])[0])
        if t < len(taken):
            assert kept[taken[t]] > -torch.inf
            surprisal = statistics.log_partition - logits[taken[t]]
            state = policy.observe(state, surprisal.clamp_min(0.0))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_seeds_of_llama_cpp(llama, policy):
    def text(seed):
        return write(llama, EntropicLogitsProcessor(policy), seed=seed)

    assert text(1) == text(1) != text(2)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_seeds_of_gibbsian_draw_as_step_does(llama, policy):
    spy = Spy()
    processor = EntropicLogitsProcessor(policy, seed=1)
    first = write(llama, spy, processor, seed=1)
    # llama.cpp's own seed changes nothing, and the text begins anew
    assert first == write(llama, processor, seed=2)
    assert first != write(llama, EntropicLogitsProcessor(policy, seed=2))
    state, tokens = start(policy, 1, seed=1), []
    for logits in spy.rows:
        result = step(logits[None], state, policy=policy)
        state = result.state
        tokens.append(int(result.token))
    assert tokens[:-1] == [int(ids[-1]) for ids in spy.tokens[1:]]


def test_without_a_policy_nothing_changes(llama):
    assert write(llama, seed=3) == write(llama, Spy(), seed=3)
    assert write(llama, temperature=0.0) == write(
        llama, EntropicLogitsProcessor(Fixed(temperature=0.0)), seed=3
    )


def test_nothing_behind_the_processor_bends_the_draw(llama):
    """The first token of many texts, against the probabilities that the policy leaves."""
    policy, spy = Fixed(temperature=1.5, top_k=5), Spy()
    processor = EntropicLogitsProcessor(policy)
    drawn = []
    for seed in range(400):
        tokens = llama.tokenize(PROMPT.encode())
        options = {key: value for key, value in NEUTRAL.items() if key != "temperature"}
        llama.set_seed(seed)
        taken = llama.generate(
            tokens, temp=1.0, logits_processor=ProcessorList([processor, spy]), **options
        )
        drawn.append(next(taken))
    expected = spy.rows[0].softmax(dim=-1).double() * len(drawn)
    counts = torch.bincount(torch.tensor(drawn), minlength=len(expected)).double()
    pool = expected > 0
    assert int(pool.sum()) == 5
    assert counts[~pool].sum() == 0
    statistic = stats.chisquare(counts[pool], expected[pool] * counts.sum() / expected.sum())
    assert statistic.pvalue > GOODNESS_OF_FIT_FAILURE_RATE


def test_chat(llama):
    processors = ProcessorList([EntropicLogitsProcessor(Fixed(temperature=0.0))])
    asked = [{"role": "user", "content": "What is the capital of France?"}]

    def answer(**options):
        options = NEUTRAL | {"max_tokens": 12} | options
        return llama.create_chat_completion(asked, **options)["choices"][0]["message"]["content"]

    assert answer(logits_processor=processors) == answer(temperature=0.0)


def test_a_bias_is_refused_not_forgotten(llama):
    with pytest.raises(ArgumentError, match="logit_bias"):
        write(llama, EntropicLogitsProcessor(Fixed()), logit_bias={28: 1.0})


def test_it_is_fast_enough_to_use(llama, record_property):
    """Tokens a second with and without a policy, on a machine that may be busy."""

    def speed(*processors):
        began = time.perf_counter()
        write(llama, *processors, length=48, seed=1, stop=[])
        return 48 / (time.perf_counter() - began)

    speed()
    plain, ours = (max(speed(*p) for _ in range(3)) for p in ((), (processor(),)))
    record_property("tokens_per_second", f"{plain:.0f} plain, {ours:.0f} with a policy")
    assert ours > 0.5 * plain


def processor():
    return EntropicLogitsProcessor(Fixed(temperature=0.9, min_p=0.05))
