"""SmolLM2 for the tests that start vLLM, and what gibbsian makes of it without vLLM."""

import importlib.util
import os
import warnings

import pytest
import torch

from gibbsian._errors import DataError
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.sampling import start, step
from gibbsian.sampling.policies import policy_from_text

PROMPT = "It is a truth universally acknowledged, that"
LENGTH = 128


def environment():
    return dict(os.environ, HF_HUB_OFFLINE="1", VLLM_CPU_KVCACHE_SPACE="1", OMP_NUM_THREADS="1")


def folder():
    """The model's folder; skips the test where vLLM or the model is missing."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed (tests/vllm-requirements.txt)")
    try:
        return smollm2_folder()
    except DataError as error:
        pytest.skip(str(error))


class Reference:
    """transformers and gibbsian's own step, one sequence at a time."""

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from transformers import AutoModelForCausalLM, AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(folder())
            self.model = AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32).eval()

    @torch.no_grad()
    def tokens(self, policy, seed, count, prompt=PROMPT):
        policy = policy_from_text(policy)
        state, cache, tokens = start(policy, 1, seed=seed), None, []
        ids = self.tokenizer(prompt, return_tensors="pt").input_ids
        for _ in range(count):
            out = self.model(ids, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            token, state, _ = step(out.logits[:, -1], state, policy=policy)
            tokens.append(int(token))
            ids = token[:, None]
        return tokens
