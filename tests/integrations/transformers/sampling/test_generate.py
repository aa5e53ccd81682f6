"""`gibbsian_generate` against generate itself, against no cache, and against rows alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MaxLengthCriteria,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    StoppingCriteriaList,
)

from gibbsian._errors import ArgumentError, UnsupportedModelError
from gibbsian.attention import AES
from gibbsian.integrations.transformers import use
from gibbsian.integrations.transformers.sampling import EntropicOutput, gibbsian_generate
from gibbsian.sampling import Action, AttentionSignals, TokenRecord, read_jsonl, write_jsonl
from gibbsian.sampling.policies import EDT, Adaptive, Fixed, Mirostat, Policy, Quadrant
from gibbsian.sampling.thresholds import Thresholds
from tests.integrations.transformers.families import VOCABULARY, batch_for, build
from tests.integrations.transformers.sampling.policies import Scripted, Watched
from tests.tolerances import assert_same_outputs

NEW = 10
# every quadrant is met by the logits of these random weights
LEVELS = Thresholds(entropy_low=2.97, entropy_high=3.0, varentropy_low=1.58, varentropy_high=1.6)
QUADRANT = Quadrant(thresholds=LEVELS, insert_token=5)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return build("llama")


def generated(model: PreTrainedModel, policy: Policy, **options: Any) -> EntropicOutput:
    given = batch_for(model, "left").inputs | {"max_new_tokens": NEW, "seed": 0} | options
    output = model.generate(
        **given,
        custom_generate=gibbsian_generate,
        policy=policy,
        return_dict_in_generate=True,
        output_logits=True,
    )
    assert isinstance(output, EntropicOutput)
    return output


def new(output: EntropicOutput) -> Tensor:
    return output.sequences[:, -NEW:]


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma3"])
def test_greedy_is_generates_own(name: str) -> None:
    model = build(name)
    inputs = batch_for(model, "left").inputs
    own = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)
    greedy = generated(model, Fixed(temperature=0.0))
    assert torch.equal(greedy.sequences, own)
    assert len(own[:, -NEW:].unique()) > 2


@pytest.mark.parametrize("policy", [EDT(), Mirostat(), Adaptive(), QUADRANT])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_cache_changes_nothing(name: str, policy: Policy) -> None:
    model = build(name)
    cached, without = (generated(model, policy, use_cache=c) for c in (True, False))
    assert torch.equal(cached.sequences, without.sequences)
    assert_same_outputs(torch.stack(cached.logits), torch.stack(without.logits))


def test_all_quadrants_are_met(model: PreTrainedModel) -> None:
    outputs = [generated(model, QUADRANT, seed=seed, branch_length=1) for seed in range(6)]
    records = [record for output in outputs for record in output.records]
    assert {r.branch for r in records} == set(Quadrant.branches)
    actions = {Action.GREEDY, Action.BRANCH, Action.RESAMPLE, Action.INSERT, Action.DRAW}
    assert {r.action for r in records} == {a.name.lower() for a in actions}
    assert all(r.token == 5 for r in records if r.action == "insert")


@pytest.mark.parametrize("policy", [Mirostat(), Adaptive(), QUADRANT])
def test_a_row_alone_is_the_row_of_a_batch(model: PreTrainedModel, policy: Policy) -> None:
    seeds = torch.tensor([3, 1, 4])
    together = generated(model, policy, seed=seeds)
    inputs = batch_for(model, "left").inputs
    for row in range(3):
        kept = inputs["attention_mask"][row].bool()
        alone = generated(
            model,
            policy,
            input_ids=inputs["input_ids"][row : row + 1, kept],
            attention_mask=inputs["attention_mask"][row : row + 1, kept],
            seed=seeds[row : row + 1],
        )
        assert torch.equal(new(alone)[0], new(together)[row])


def test_seeds(model: PreTrainedModel) -> None:
    policy = Fixed()
    first, again, other = (generated(model, policy, seed=s).sequences for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    fresh, anew = (generated(model, policy, seed=None).sequences for _ in range(2))
    assert not torch.equal(fresh, anew)
    drawn = [
        generated(model, policy, seed=None, generator=torch.Generator().manual_seed(5)).sequences
        for _ in range(2)
    ]
    assert torch.equal(*drawn)


def test_the_draws_are_those_of_the_model(model: PreTrainedModel) -> None:
    """Goodness of fit of the first token over many rows."""
    prompt = batch_for(model, "left").inputs["input_ids"][2:3]
    rows = 4000
    output = generated(
        model,
        Fixed(),
        input_ids=prompt.expand(rows, -1),
        attention_mask=torch.ones_like(prompt).expand(rows, -1),
        max_new_tokens=1,
    )
    expected = output.logits[0][0].softmax(dim=-1) * rows
    counted = torch.bincount(output.sequences[:, -1], minlength=VOCABULARY)
    often = expected > 5
    chi_squared = float(((counted - expected)[often].square() / expected[often]).sum())
    freedom = int(often.sum())
    assert chi_squared < freedom + 6 * math.sqrt(2 * freedom)


def test_branches_are_scored_and_the_best_is_kept_whole(model: PreTrainedModel) -> None:
    """Against continuations that are drawn and scored one by one, without a cache."""
    fork = Scripted(actions=(Action.BRANCH,))
    output = generated(model, fork, branches=40, branch_length=3, max_new_tokens=4)
    plain = generated(model, fork, branches=1, max_new_tokens=4)
    inputs = batch_for(model, "left").inputs

    def mean(result: EntropicOutput) -> list[float]:
        return [
            sum(r.surprisal for r in result.records if r.row == row and r.step < 3) / 3
            for row in range(3)
        ]

    assert all(best < drawn for best, drawn in zip(mean(output), mean(plain), strict=True))
    logits = model(
        input_ids=output.sequences[:, :-1],
        attention_mask=torch.nn.functional.pad(inputs["attention_mask"], (0, 3), value=1),
    ).logits[:, -4:]
    chosen = output.sequences[:, -4:]
    surprisal = -logits.log_softmax(dim=-1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    told = torch.tensor([r.surprisal for r in output.records]).view(3, 4)
    assert_same_outputs(told, surprisal)


def test_branches_of_greedy_rows_are_all_the_same(model: PreTrainedModel) -> None:
    fork = Scripted(actions=(Action.BRANCH,) * NEW, temperature=0.0)
    own = generated(model, Fixed(temperature=0.0))
    assert torch.equal(generated(model, fork).sequences, own.sequences)


def test_an_end_ends_a_continuation(model: PreTrainedModel) -> None:
    """The token that ends a kept branch ends the row there."""
    fork = Scripted(actions=(Action.BRANCH,))
    plain = generated(model, fork, branches=6, branch_length=5)
    end = int(new(plain)[0, 2])
    output = generated(model, fork, branches=6, branch_length=5, eos_token_id=end, pad_token_id=0)
    for row in range(3):
        tokens = [r.token for r in output.records if r.row == row]
        assert end not in tokens[:-1]
        after = new(output)[row] if output.sequences.shape == plain.sequences.shape else None
        if after is not None and len(tokens) < NEW:
            assert (after[len(tokens) :] == 0).all()


def test_resampling_leaves_the_mist_where_a_draw_can(model: PreTrainedModel) -> None:
    """One step behind, fewer rows are lost than without."""
    inputs = {k: v[2:3].expand(300, -1) for k, v in batch_for(model, "left").inputs.items()}
    level = float(torch.tensor([r.entropy for r in generated(model, Fixed()).records]).median())
    policy = Scripted(lost_above=level, actions=(Action.RESAMPLE,))

    def lost(resamples: int) -> int:
        options = {"resamples": resamples, "branch_length": 1, "max_new_tokens": 2}
        output = generated(model, policy, **inputs, **options)
        assert all(r.action == "resample" for r in output.records if r.step == 0)
        return sum(r.action == "resample" for r in output.records if r.step == 1)

    assert lost(4) < 0.5 * lost(1)


def test_insert(model: PreTrainedModel) -> None:
    policy = Scripted(actions=(Action.DRAW, Action.INSERT, Action.DRAW), insert_token=7)
    output = generated(model, policy)
    assert (new(output)[:, 1] == 7).all()
    steps = [r for r in output.records if r.action == "insert"]
    assert [(r.row, r.step, r.kept) for r in steps] == [(0, 1, 1), (1, 1, 1), (2, 1, 1)]


def test_ends_lengths_and_criteria_are_generates(model: PreTrainedModel) -> None:
    greedy = Fixed(temperature=0.0)
    inputs = batch_for(model, "left").inputs
    end = int(generated(model, greedy).sequences[0, -NEW + 3])
    options = {"eos_token_id": end, "pad_token_id": 0, "min_new_tokens": 2}
    own = model.generate(**inputs, **options, max_new_tokens=NEW, do_sample=False)
    ours = generated(model, greedy, **options)
    assert torch.equal(ours.sequences, own)
    assert len(ours.records) < 3 * NEW
    stop = StoppingCriteriaList([MaxLengthCriteria(inputs["input_ids"].shape[1] + 2)])
    stopped = generated(model, greedy, stopping_criteria=stop)
    assert stopped.sequences.shape[1] == inputs["input_ids"].shape[1] + 2
    twice = generated(model, greedy, num_return_sequences=2, do_sample=True)
    assert len(twice.sequences) == 6


def test_processors_run_first_and_the_configured_filters_do_not(model: PreTrainedModel) -> None:
    policy = Fixed()
    plain = generated(model, policy)
    sampled = generated(model, policy, do_sample=True, temperature=0.1, top_k=1, top_p=0.1)
    assert torch.equal(plain.sequences, sampled.sequences)
    once = LogitsProcessorList([NoRepeatNGramLogitsProcessor(1)])
    output = generated(model, Fixed(temperature=0.0), logits_processor=once)
    for row in new(output):
        assert len(row.unique()) == NEW


def test_records_callback_and_file(model: PreTrainedModel, tmp_path: Any) -> None:
    told: list[TokenRecord] = []
    output = generated(model, QUADRANT, callback=told.extend)
    assert sorted(told, key=lambda r: (r.row, r.step)) == output.records
    assert [r.token for r in output.records] == new(output).flatten().tolist()
    write_jsonl(output.records, tmp_path / "trace.jsonl")
    assert read_jsonl(tmp_path / "trace.jsonl") == output.records
    tensor = model.generate(
        **batch_for(model, "left").inputs,
        max_new_tokens=2,
        custom_generate=gibbsian_generate,
        policy=Fixed(),
    )
    assert isinstance(tensor, Tensor)


def test_attention_reaches_the_policy(model: PreTrainedModel) -> None:
    hot = Adaptive(temperature=1.0, candidates=1)
    without, captured = (generated(model, hot, attention=a) for a in (False, True))
    assert_same_outputs(without.logits[0], captured.logits[0])
    warmer = [r.temperature for r in captured.records]
    assert warmer != [r.temperature for r in without.records]
    softmax = use(build("llama"), AES())  # returns the statistics of softmax rows with its own
    assert generated(softmax, hot, attention=True).records[0].temperature is not None
    recomputed = generated(model, QUADRANT, attention=True, use_cache=False)
    cached = generated(model, QUADRANT, attention=True)
    assert torch.equal(recomputed.sequences, cached.sequences)


def test_a_prompt_read_in_chunks_has_the_signals_of_its_last_token(model: PreTrainedModel) -> None:
    hot = Adaptive(temperature=1.0, candidates=1)
    whole, chunked = (
        generated(model, hot, attention=True, prefill_chunk_size=size) for size in (None, 4)
    )
    for expected, record in zip(whole.records, chunked.records, strict=True):
        assert record.token == expected.token
        assert record.temperature == pytest.approx(expected.temperature, rel=1e-4)


def test_signals_are_the_models_not_those_of_a_processor_that_calls_it(
    model: PreTrainedModel,
) -> None:
    def first(**options: Any) -> AttentionSignals:
        watched = Watched()
        alone = {"attention": True, "branches": 1, "resamples": 1, "max_new_tokens": 2}
        generated(model, watched, **alone, **options)
        return watched.seen[0]

    own, guided = first(), first(guidance_scale=1.5)
    assert torch.equal(own.entropy, guided.entropy)


def test_guidance_is_refused_where_it_would_see_other_rows(model: PreTrainedModel) -> None:
    fork = Scripted(actions=(Action.DRAW, Action.BRANCH))
    message = "`guidance_scale` keeps a cache .* Give `branches=1, resamples=1`"
    with pytest.raises(UnsupportedModelError, match=message):
        generated(model, fork, guidance_scale=1.5)
    with pytest.raises(UnsupportedModelError, match=message):
        generated(model, Scripted(actions=(Action.RESAMPLE,)), guidance_scale=1.5)
    alone = generated(model, fork, guidance_scale=1.5, branches=1, resamples=1)
    assert new(alone).shape == (3, NEW)
    assert len(generated(model, EDT(), guidance_scale=1.5).records) == 3 * NEW


def test_branches_of_one_token_copy_nothing(model: PreTrainedModel) -> None:
    fork = Scripted(actions=(Action.BRANCH,) * NEW)
    options = {"branch_length": 1, "resamples": 1}
    static = generated(model, fork, cache_implementation="static", **options)
    assert torch.equal(static.sequences, generated(model, fork, **options).sequences)


def test_bad_input(model: PreTrainedModel) -> None:
    with pytest.raises(ArgumentError, match=r"`num_beams` must be 1 .* got 2"):
        generated(model, Fixed(), num_beams=2)
    with pytest.raises(ArgumentError, match=r"`branches` must be an integer >= 1, got 0"):
        generated(model, Fixed(), branches=0)
    with pytest.raises(UnsupportedModelError, match="cannot be copied row by row"):
        generated(model, Scripted(actions=(Action.BRANCH,)), cache_implementation="static")
    assert generated(model, Fixed(), cache_implementation="static").sequences is not None
