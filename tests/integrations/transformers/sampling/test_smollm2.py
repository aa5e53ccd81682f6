"""Real pretrained weights: SmolLM2 writes with policies."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gibbsian._errors import DataError
from gibbsian.experiments.generation import GenerateConfig, Writer
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.integrations.transformers import (
    NEUTRAL,
    EntropicLogitsProcessor,
    gibbsian_generate,
    with_texts,
)
from gibbsian.sampling import Thresholds
from gibbsian.sampling.policies import Fixed, Quadrant

pytestmark = [pytest.mark.real, pytest.mark.slow]

LEVELS = Thresholds(entropy_low=0.5, entropy_high=2.0, varentropy_low=0.5, varentropy_high=2.0)


@pytest.fixture(scope="module")
def folder() -> Any:
    try:
        return smollm2_folder()
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model(folder: Any) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def inputs(folder: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    prompts = ["The capital of France is", "One, two, three, four, five, six,"]
    return tokenizer(prompts, padding=True, return_tensors="pt")


def test_policies_with_and_without_a_cache(model: Any, inputs: Any, folder: Any) -> None:
    policy = Quadrant(thresholds=LEVELS)
    options = {
        "max_new_tokens": 12,
        "custom_generate": gibbsian_generate,
        "policy": policy,
        "seed": 5,
        "return_dict_in_generate": True,
    }
    cached = model.generate(**inputs, **options)
    without = model.generate(**inputs, **options, use_cache=False)
    assert torch.equal(cached.sequences, without.sequences)
    assert len({r.branch for r in cached.records}) > 2
    records = with_texts(cached.records, AutoTokenizer.from_pretrained(folder))
    first = "".join(r.text or "" for r in records if r.row == 0)
    assert "Paris" in first
    # padding leaves no trace
    alone = model.generate(inputs.input_ids[1:], **options | {"seed": torch.tensor([3])})
    both = model.generate(**inputs, **options | {"seed": torch.tensor([9, 3])})
    assert inputs.attention_mask[1].all()
    assert torch.equal(alone.sequences[0], both.sequences[1])


def test_the_processor_greedy_is_greedy(model: Any, inputs: Any) -> None:
    own = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    processor = EntropicLogitsProcessor(Fixed(temperature=0.0))
    ours = model.generate(**inputs, max_new_tokens=8, logits_processor=[processor], **NEUTRAL)
    assert torch.equal(own, ours)


def test_it_answers(folder: Any) -> None:
    class Silent:
        def on_token(self, token: dict[str, Any]) -> None:
            pass

    config = GenerateConfig(
        model=str(folder),
        prompt="What is the capital of France?",
        policy="fixed:temperature=0",
        max_tokens=40,
    )
    generation = Writer(config).write(Silent())
    assert generation["chat"]
    assert "Paris" in generation["text"]
    assert generation["stopped"] == "end"
    assert "<|im_end|>" not in generation["text"]
