"""A policy by name, where `custom_generate` cannot be a function."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, dynamic_module_utils

from gibbsian._errors import ArgumentError
from gibbsian.integrations.transformers import CUSTOM_GENERATE, gibbsian_generate
from gibbsian.sampling.policies import Fixed


@pytest.fixture
def generate(tmp_path, monkeypatch):
    """`generate` of a small model; the file that transformers copies stays in a folder of ours."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(1, 64, (2, 5))

    def generate(**options):
        return model.generate(input_ids=ids, max_new_tokens=6, **options)

    return generate


def named(policy, **more):
    return {"custom_generate": CUSTOM_GENERATE, "trust_remote_code": True, "policy": policy, **more}


def test_it_is_what_the_function_does(generate):
    policy = Fixed(temperature=0.7, min_p=0.05)
    expected = generate(custom_generate=gibbsian_generate, policy=policy, seed=1)
    assert torch.equal(generate(**named("fixed:temperature=0.7,min_p=0.05", seed=1)), expected)
    assert not torch.equal(generate(**named("edt", seed=2)), expected)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (named("edd"), "`policy` must be one of"),
        (named(None), "`policy` is missing"),
        (named("edt", top_p=0.9), "`top_p` must be an option of the policy"),
        (named("edt", temperature=0.7), "`temperature` must be an option of the policy"),
    ],
)
def test_what_cannot_be_is_told(generate, options, reason):
    with pytest.raises(ArgumentError, match=reason):
        generate(**options)
