"""Models whose attention cannot be replaced say so in one line."""

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from transformers import (
    BigBirdConfig,
    BigBirdModel,
    DebertaV2Config,
    DebertaV2Model,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTJConfig,
    GPTJModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaPreTrainedModel,
    LongformerConfig,
    LongformerModel,
    NystromformerConfig,
    NystromformerModel,
    PreTrainedModel,
    RoFormerConfig,
    RoFormerModel,
    T5Config,
    T5Model,
    XLNetConfig,
    XLNetModel,
)

from gibbsian._errors import UnsupportedModelError
from gibbsian.attention import AES, Softmax
from gibbsian.integrations.transformers import forward, use
from tests.integrations.transformers.families import VOCABULARY, batch_for, build, llama

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}

KEEP_THEIR_OWN: dict[str, Callable[[], PreTrainedModel]] = {
    "bigbird": lambda: BigBirdModel(BigBirdConfig(**_SIZES)),
    "deberta": lambda: DebertaV2Model(DebertaV2Config(**_SIZES)),
    "gptj": lambda: GPTJModel(
        GPTJConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=4, rotary_dim=4)
    ),
    "longformer": lambda: LongformerModel(LongformerConfig(**_SIZES, attention_window=4)),
    "nystromformer": lambda: NystromformerModel(NystromformerConfig(**_SIZES, num_landmarks=4)),
    "roformer": lambda: RoFormerModel(RoFormerConfig(**_SIZES)),
    "xlnet": lambda: XLNetModel(
        XLNetConfig(vocab_size=VOCABULARY, d_model=32, n_layer=1, n_head=4, d_inner=48)
    ),
}


def _one_line(error: pytest.ExceptionInfo[UnsupportedModelError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", KEEP_THEIR_OWN)
def test_models_that_would_keep_their_own_attention_in_silence(name: str) -> None:
    model = KEEP_THEIR_OWN[name]()
    with pytest.raises(UnsupportedModelError, match="would keep its own attention") as error:
        use(model, AES())
    assert type(model).__name__ in _one_line(error)
    assert not hasattr(model.config, "gibbsian_attention")
    assert not any("gibbsian" in key for key, _ in model.named_modules())


def test_one_layer_of_another_kind_among_supported_ones() -> None:
    model = llama()
    model.other = KEEP_THEIR_OWN["deberta"]().encoder.layer[0].attention
    with pytest.raises(UnsupportedModelError, match=r"other.*itself"):
        use(model, AES())


def test_a_model_without_any_attention() -> None:
    class Plain(LlamaPreTrainedModel):
        def __init__(self) -> None:
            super().__init__(llama().config)
            self.dense = torch.nn.Linear(2, 2)

    # what transformers finds by reading the sources of a model without attention
    Plain._can_set_attn_implementation_cached_value = True
    with pytest.raises(UnsupportedModelError, match="no attention layer"):
        use(Plain(), AES())


def test_soft_capped_scores() -> None:
    with pytest.raises(UnsupportedModelError, match="Gemma2ForCausalLM"):
        use(Gemma2ForCausalLM(Gemma2Config(**_SIZES, num_key_value_heads=2, head_dim=8)), AES())


def _gpt_oss(**options: Any) -> PreTrainedModel:
    return GptOssForCausalLM(
        GptOssConfig(
            **_SIZES,
            num_key_value_heads=2,
            head_dim=8,
            num_local_experts=2,
            num_experts_per_tok=1,
            pad_token_id=0,
            **options,
        )
    )


def test_attention_sinks() -> None:
    with pytest.raises(UnsupportedModelError, match="GptOssForCausalLM"):
        use(_gpt_oss(), AES())


def test_attention_sinks_of_a_model_that_was_given_the_name_alone() -> None:
    model = _gpt_oss(attn_implementation="gibbsian_aes")
    with pytest.raises(UnsupportedModelError, match="`s_aux`"):
        model(torch.ones(1, 3, dtype=torch.int64))


def test_a_transformers_without_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = ModuleType("transformers.utils.output_capturing")
    monkeypatch.setitem(sys.modules, renamed.__name__, renamed)
    spec = importlib.util.spec_from_file_location("forward_again", forward.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"needs transformers >= 5\.16.*got \d"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_relative_position_biases() -> None:
    config = T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    model = use(T5Model(config), Softmax())
    tokens = torch.randint(3, VOCABULARY, (1, 5))
    with pytest.raises(UnsupportedModelError, match="`position_bias`"):
        model(input_ids=tokens, decoder_input_ids=tokens)


def test_an_argument_that_nobody_knows() -> None:
    model = use(llama(), Softmax())
    with pytest.raises(UnsupportedModelError, match="`something_new`") as error:
        model(**batch_for(model).inputs, something_new=3)
    assert "LlamaAttention" in _one_line(error)


def test_a_name_that_differs_from_the_attention_in_the_layers() -> None:
    model = use(build("llama"), AES())
    model.set_attn_implementation("gibbsian_softmax")
    with pytest.raises(UnsupportedModelError, match="gibbsian_softmax"):
        model(**batch_for(model).inputs)


def test_the_models_own_attention_can_be_had_back() -> None:
    model = use(build("llama"), AES())
    model.set_attn_implementation("sdpa")
    batch = batch_for(model)
    with torch.no_grad():
        assert torch.equal(model(**batch.inputs).logits, build("llama")(**batch.inputs).logits)
