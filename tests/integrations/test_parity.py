"""The same logits, policy and seed leave the same tokens through every engine's door, bit for bit.

Each engine here is a function that hands logits to its processor as that engine does, without the
engine: their own folders have the tests with it.
"""

import json

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from gibbsian.integrations import llama_cpp
from gibbsian.integrations.sglang import EntropicLogitProcessor
from gibbsian.integrations.transformers import EntropicLogitsProcessor, gibbsian_generate
from gibbsian.sampling import start, step
from gibbsian.sampling.policies import POLICIES
from gibbsian.sampling.stream import row_seeds
from gibbsian.statistics import row_statistics
from tests.integrations.sglang.server import Req
from tests.integrations.vllm.engines import (
    BatchUpdate,
    LogitsContext,
    SamplingParams,
    first,
    second,
    slots,
)
from tests.sampling.policies.cases import EVERY

STEPS, ROWS, STATES = 7, 4, 300
PROMPT = [3, 1, 2]
SEEDS = [5, 6, 5, -1]
FREE = [policy for policy in EVERY if not policy.remembers]


@pytest.fixture(scope="module")
def logits():
    """(steps, rows, states): sharp and flat rows, tokens that are absent, ties."""
    generator = torch.Generator().manual_seed(1)
    scales = torch.tensor([0.5, 2.0, 4.0, 8.0])[:, None]
    logits = torch.randn(STEPS, ROWS, STATES, generator=generator) * scales
    logits[:, 1] = logits[:, 1].round()
    logits[:, 2, ::3] = -torch.inf
    logits[2, :, 100:] = -torch.inf
    # the inserted token of `quadrant` may be absent too
    logits[4, 0, 11] = -torch.inf
    return logits


def drawn(policy, logits, seeds):
    """(steps, rows) tokens of each row stepped alone."""
    rows = []
    for row, seed in enumerate(seeds):
        state, tokens = start(policy, 1, seed=seed), []
        for now in logits[:, row : row + 1]:
            result = step(now, state, policy=policy)
            state = result.state
            tokens.append(int(result.token))
        rows.append(tokens)
    return torch.tensor(rows).T


def decided(policy, logits, tokens):
    """(steps, rows, states) what decisions leave, each row alone, if `tokens` are taken."""
    left = torch.empty_like(logits)
    for row in range(ROWS):
        state = policy.start(1, "cpu")
        for i in range(STEPS):
            now = logits[i, row : row + 1]
            statistics = row_statistics(now)
            decision, state = policy.decide(statistics, state)
            left[i, row] = decision.apply(now)[0]
            surprisal = statistics.log_partition - now[:, tokens[i, row]]
            state = policy.observe(state, surprisal.clamp_min(0.0))
    return left


def transformers(policy, logits, tokens, seeds):
    assert seeds is None
    processor, ids = EntropicLogitsProcessor(policy), torch.tensor([PROMPT] * ROWS)
    left = []
    for i in range(STEPS):
        left.append(processor(ids, logits[i]))
        ids = torch.cat([ids, tokens[i][:, None]], dim=1)
    return torch.stack(left)


def llama(policy, logits, tokens, seeds):
    left = torch.empty_like(logits)
    for row in range(ROWS):
        seed = None if seeds is None else seeds[row]
        processor = llama_cpp.EntropicLogitsProcessor(policy, seed=seed)
        for i in range(STEPS):
            ids = np.array([*PROMPT, *tokens[:i, row].tolist()], dtype=np.intc)
            left[i, row] = torch.from_numpy(processor(ids, logits[i, row].numpy()))
    return left


def asked(policy, seed):
    given = {"gibbsian_policy": json.dumps(policy.to_config())}
    return given if seed is None else given | {"gibbsian_seed": seed}


def sglang(policy, logits, tokens, seeds):
    reqs = [Req(asked(policy, None if seeds is None else seeds[row])) for row in range(ROWS)]
    given, left = [req.sampling_params.custom_params for req in reqs], []
    for i in range(STEPS):
        # a processor for each batch, and the results one step late
        left.append(EntropicLogitProcessor()(logits[i].clone(), given))
        for row, req in enumerate(reqs):
            if i > 0:
                req.output_ids.append(int(tokens[i - 1, row]))
            req.decode_batch_idx += 1
    assert all(req.to_finish is None for req in reqs)
    return torch.stack(left)


def parameters(policy, seeds):
    given = [None] * ROWS if seeds is None else seeds
    return [SamplingParams(extra_args=asked(policy, seed)) for seed in given]


def vllm_first(policy, logits, tokens, seeds):
    processor, outputs, left = first(), [[] for _ in range(ROWS)], []
    added = [
        (row, each, PROMPT, outputs[row]) for row, each in enumerate(parameters(policy, seeds))
    ]
    processor.update_state(BatchUpdate(ROWS, [], added, []))
    for i in range(STEPS):
        left.append(processor.apply(logits[i].clone()))
        for output, token in zip(outputs, tokens[i].tolist(), strict=True):
            output.append(token)
        processor.update_state(None)
    return torch.stack(left)


def vllm_second(policy, logits, tokens, seeds):
    del tokens  # it is told none of them
    state, left = slots(), []
    processor = second(state)
    slot = np.array([6, 0, 3, 1])
    for each, place in zip(parameters(policy, seeds), slot.tolist(), strict=True):
        state.prompt_len.np[place] = state.prefill_len.np[place] = len(PROMPT)
        assert processor.add_request(place, each)
    for i in range(STEPS):
        lengths = np.full(ROWS, len(PROMPT) + i, dtype=np.int32)
        context = LogitsContext(
            expanded_idx_mapping=torch.tensor(slot),
            idx_mapping=torch.tensor(slot),
            idx_mapping_np=slot,
            expanded_local_pos=torch.zeros(ROWS),
            input_ids=torch.zeros(ROWS),
            pos=torch.tensor(lengths) - 1,
            seq_lens_upper_bound_np=lengths,
        )
        processor.apply_staged_writes()
        left.append(processor.apply(logits[i].clone(), context))
    return torch.stack(left)


SERVERS = [sglang, vllm_first, vllm_second]


@pytest.mark.parametrize("engine", [transformers, llama, *SERVERS], ids=lambda f: f.__name__)
@pytest.mark.parametrize("policy", FREE, ids=lambda policy: policy.name)
def test_the_same_is_left(policy, engine, logits):
    tokens = drawn(policy, logits, SEEDS)
    assert torch.equal(engine(policy, logits, tokens, None), decided(policy, logits, tokens))


@pytest.mark.parametrize("engine", [transformers, llama], ids=lambda f: f.__name__)
@pytest.mark.parametrize("policy", [p for p in EVERY if p.remembers], ids=lambda p: p.name)
def test_the_same_is_left_by_what_remembers_the_tokens_taken(policy, engine, logits):
    """Servers draw the tokens of such policies themselves: the next test."""
    for seeds in (SEEDS, [8, 9, 10, 11]):
        tokens = drawn(policy, logits, seeds)
        assert torch.equal(engine(policy, logits, tokens, None), decided(policy, logits, tokens))


@pytest.mark.parametrize("engine", [llama, *SERVERS], ids=lambda f: f.__name__)
@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_equal_seeds_draw_equal_tokens(policy, engine, logits):
    tokens = drawn(policy, logits, SEEDS)
    left = engine(policy, logits, tokens, SEEDS)
    assert torch.equal(left.argmax(dim=-1), tokens)
    assert (left > -torch.inf).sum(dim=-1).eq(1).all()


class Scripted(LlamaForCausalLM):
    """A model that says what it is told."""

    script: torch.Tensor

    def forward(self, input_ids, past_key_values=None, **_):
        now = self.script[self.said]
        self.said += 1
        length = input_ids.shape[1]
        repeated = now[:, None].expand(-1, length, -1)
        return CausalLMOutputWithPast(logits=repeated, past_key_values=past_key_values)


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_equal_seeds_draw_equal_tokens_in_the_loop_of_transformers(policy, logits):
    config = LlamaConfig(
        vocab_size=STATES,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = Scripted(config).eval()
    model.script, model.said = logits, 0
    streams = torch.cat([row_seeds(seed, 1, "cpu") for seed in SEEDS])
    written = model.generate(
        torch.tensor([PROMPT] * ROWS),
        custom_generate=gibbsian_generate,
        policy=policy,
        seed=streams,
        # the actions that look ahead are for this loop alone
        branches=1,
        resamples=1,
        max_new_tokens=STEPS,
        use_cache=False,
    )
    assert torch.equal(written[:, len(PROMPT) :].T, drawn(policy, logits, SEEDS))


def test_every_policy_is_here():
    assert {policy.name for policy in EVERY} == set(POLICIES)
