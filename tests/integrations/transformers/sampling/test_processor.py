"""The logits processor in generate and in continuous batching."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessorList,
)

from gibbsian.integrations.transformers.sampling import NEUTRAL, EntropicLogitsProcessor
from gibbsian.sampling.policies import EDT, Fixed, Mirostat, Policy, Quadrant
from gibbsian.statistics import row_statistics
from tests.integrations.transformers.families import batch_for, build
from tests.integrations.transformers.sampling.policies import Counted, Scripted
from tests.tolerances import assert_same_outputs


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return build("llama")


def run(model: PreTrainedModel, policy: Policy, **options: Any) -> Any:
    return model.generate(
        **batch_for(model, "left").inputs,
        max_new_tokens=6,
        logits_processor=[EntropicLogitsProcessor(policy)],
        return_dict_in_generate=True,
        output_logits=True,
        output_scores=True,
        **NEUTRAL | options,
    )


def test_neutral_arguments_leave_what_the_policy_left(model: PreTrainedModel) -> None:
    # as a model's generation_config.json may have it
    own = GenerationConfig(**model.generation_config.to_dict())
    try:
        model.generation_config.update(temperature=0.3, top_h=0.2, top_k=2, top_p=0.5, min_p=0.4)
        output = run(model, Fixed(temperature=1.5, min_p=0.05))
    finally:
        model.generation_config = own
    for logits, scores in zip(output.logits, output.scores, strict=True):
        probs = (logits / 1.5).softmax(dim=-1)
        kept = probs >= 0.05 * probs.amax(dim=-1, keepdim=True)
        assert kept.sum() > 3 * 2
        assert torch.equal(scores > -torch.inf, kept)
        assert_same_outputs(scores[kept], (logits / 1.5)[kept])


def test_memory_follows_the_tokens_that_were_taken() -> None:
    policy = Scripted()
    processor = EntropicLogitsProcessor(policy)
    scores = torch.randn(4, 3, 11)
    ids = torch.randint(11, (3, 2))
    total = torch.zeros(3)
    for step in range(3):
        processor(ids, scores[step])
        state = processor._last.remembered
        assert isinstance(state, Counted)
        assert state.step.tolist() == [step + 1] * 3
        assert_same_outputs(state.surprisal, total)
        token = torch.randint(11, (3,))
        chosen = scores[step].gather(-1, token[:, None])[:, 0]
        total = total + row_statistics(scores[step]).log_partition - chosen
        ids = torch.cat([ids, token[:, None]], dim=1)
    # as beams do: another order, one row twice
    order = torch.tensor([2, 0, 0])
    processor(ids[order], scores[3])
    assert_same_outputs(processor._last.remembered.surprisal, total[order])
    processor(torch.randint(11, (3, 6)), scores[3])
    assert processor._last.remembered.step.tolist() == [1] * 3


def test_mirostat_has_its_feedback(model: PreTrainedModel) -> None:
    """The limit of the pool moves, by the surprisal of what generate drew."""
    output = run(model, Mirostat(target=0.5, rate=0.5))
    limit = torch.full((3,), 1.0)
    for step, (logits, scores) in enumerate(zip(output.logits, output.scores, strict=True)):
        surprisal = -logits.log_softmax(dim=-1)
        inside = surprisal <= limit.unsqueeze(-1)
        inside |= surprisal == surprisal.amin(dim=-1, keepdim=True)
        assert torch.equal(scores > -torch.inf, inside)
        token = output.sequences[:, step - 6].unsqueeze(-1)
        limit = (limit - 0.5 * (surprisal.gather(-1, token)[:, 0] - 0.5)).clamp_min(0.0)


def test_continuous_batching_takes_the_policies_without_memory() -> None:
    kept = ContinuousBatchingLogitsProcessorList(
        [EntropicLogitsProcessor(p) for p in (EDT(), Fixed(top_p=0.5), Mirostat(), Quadrant())]
    )
    names = [processor.policy.name for processor in kept.logits_processor]
    assert names == ["edt", "fixed"]
    # what it gives a processor: of each row the newest token, not the text
    scores: Tensor = torch.randn(5, 11)
    filtered = kept(torch.arange(5), scores, torch.empty(0))
    assert (filtered > -torch.inf).any(dim=-1).all()


def test_continuous_batching_generates_with_the_policy(model: PreTrainedModel) -> None:
    prompts = [[3, 4, 5], [6, 7, 8, 9]]
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(
            max_new_tokens=5, eos_token_id=-1, pad_token_id=0, **NEUTRAL
        ),
        continuous_batching_config=ContinuousBatchingConfig(num_blocks=8, max_batch_tokens=64),
    )
    # greedy, so that what generate itself does is known
    manager.logit_processor = ContinuousBatchingLogitsProcessorList(
        [EntropicLogitsProcessor(Fixed(temperature=0.0))]
    )
    manager.start()
    try:
        names = [manager.add_request(prompt) for prompt in prompts]
        found: dict[str, list[int]] = {}
        while len(found) < len(prompts):
            result = manager.get_result(timeout=60)
            assert result is not None
            assert result.error is None
            if result.is_finished():
                found[result.request_id] = result.generated_tokens
    finally:
        manager.stop(block=True)
        model.set_attn_implementation("sdpa")
    for name, prompt in zip(names, prompts, strict=True):
        expected = model.generate(
            torch.tensor([prompt]), max_new_tokens=5, do_sample=False, eos_token_id=None
        )
        assert found[name] == expected[0, len(prompt) :].tolist()


def test_beams(model: PreTrainedModel) -> None:
    assert run(model, Quadrant(), num_beams=3).sequences.shape[0] == 3
