"""Decoding with a cache equals recomputation without one."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from gibbsian.attention import AES, Attention, Entmax, Softmax
from gibbsian.integrations.transformers import use
from gibbsian.normalizers.schedules import LearnableRamp, SmoothStep
from tests.integrations.transformers.families import DECODERS, WINDOW, batch_for, build
from tests.tolerances import assert_same_outputs

ATTENTIONS: dict[str, Attention] = {
    "softmax": Softmax(),
    "entmax": Entmax(zeta=0.8),
    "aes": AES(schedule=SmoothStep(low=0.2, high=0.99)),
    "aes-learned": AES(schedule=LearnableRamp(low=0.2, high=0.99, zeta_max=0.9)),
}
NEW = 2 * WINDOW
"""New tokens: enough for a sliding window to leave the prompt behind."""


def greedy(model: PreTrainedModel, padding: str, **options: Any) -> Any:
    """Tokens and, step by step, logits."""
    return model.generate(
        **batch_for(model, padding).inputs,
        max_new_tokens=NEW,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        **options,
    )


def _same(first: Any, second: Any) -> None:
    assert torch.equal(first.sequences, second.sequences)
    assert_same_outputs(torch.stack(first.logits), torch.stack(second.logits))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", DECODERS)
def test_decoding_with_a_cache_equals_recomputation(name: str, attention: str) -> None:
    model = use(build(name), ATTENTIONS[attention])
    cached, recomputed = greedy(model, "left"), greedy(model, "left", use_cache=False)
    _same(cached, recomputed)
    steps = torch.stack(cached.logits)
    assert (steps[1:] - steps[:-1]).abs().max() > 1e-2, "equal steps prove little"


@pytest.mark.parametrize("name", DECODERS)
def test_left_padding_leaves_no_trace(name: str) -> None:
    model = use(build(name), ATTENTIONS["aes"])
    together = greedy(model, "left")
    inputs = batch_for(model, "left").inputs
    for row in range(3):
        kept = inputs["attention_mask"][row].bool()
        alone = model.generate(
            inputs["input_ids"][row][kept][None], max_new_tokens=NEW, do_sample=False
        )
        assert torch.equal(alone[0, -NEW:], together.sequences[row, -NEW:])


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "gemma3"])
def test_a_static_cache_equals_a_dynamic_one(name: str, padding: str) -> None:
    model = use(build(name), ATTENTIONS["aes"])
    static = greedy(model, padding, cache_implementation="static", disable_compile=True)
    _same(static, greedy(model, padding))


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_beams_equal_recomputation(name: str) -> None:
    model = use(build(name), ATTENTIONS["aes"])
    cached = greedy(model, "left", num_beams=3)
    recomputed = greedy(model, "left", num_beams=3, use_cache=False)
    assert torch.equal(cached.sequences, recomputed.sequences)


@pytest.mark.parametrize("name", DECODERS)
def test_a_prompt_in_pieces_equals_the_whole(name: str) -> None:
    """Several queries after a cache: causality is aligned at the end, not at the start."""
    model = use(build(name), ATTENTIONS["aes"])
    tokens = batch_for(model).inputs["input_ids"]
    with torch.no_grad():
        whole = model(tokens).logits
        first = model(tokens[:, :4], use_cache=True)
        second = model(tokens[:, 4:], past_key_values=first.past_key_values)
    assert_same_outputs(torch.cat([first.logits, second.logits], dim=1), whole)


def test_statistics_of_every_step() -> None:
    model = use(build("llama"), ATTENTIONS["aes"])
    steps = greedy(model, "left", output_attentions=True).attentions
    length = batch_for(model).present.shape[1]
    assert [step[1].shape for step in steps] == [
        (3, 4, length if step == 0 else 1, 5) for step in range(NEW)
    ]
    num_keys: Tensor = steps[-1][1][:, 0, 0, -1]
    lengths = batch_for(model, "left").inputs["attention_mask"].sum(dim=-1)
    assert torch.equal(num_keys, (lengths + NEW - 1).float())
