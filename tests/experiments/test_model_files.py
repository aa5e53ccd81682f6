"""What a saved model is good for, from its configuration."""

import pytest
from transformers import BertConfig, LlamaConfig

from gibbsian.experiments.model_files import predicts_next_token


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(architectures=["LlamaForCausalLM"]), True),
        (LlamaConfig(architectures=["LlamaModel"]), False),
        # the head is there, but every token sees the ones that follow
        (BertConfig(architectures=["BertLMHeadModel"]), False),
        (BertConfig(architectures=["BertLMHeadModel"], is_decoder=True), True),
        (BertConfig(architectures=["BertForMaskedLM"]), False),
    ],
)
def test_a_head_predicts_only_what_it_does_not_see(config, expected):
    assert predicts_next_token(config, {}) is expected


def test_gguf_files_hold_decoders():
    assert predicts_next_token(LlamaConfig(), {"gguf_file": "model.gguf"})
