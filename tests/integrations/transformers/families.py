"""Tiny random models of many families, with weights large enough for attention to matter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTModel,
)

VOCABULARY = 61
LENGTH = 9
WINDOW = 4
"""Of the families with sliding windows: shorter than the inputs."""

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
_TEXT = _SIZES | {"vocab_size": VOCABULARY, "intermediate_size": 48, "pad_token_id": 0}
_DECODER = _TEXT | {"bos_token_id": 1, "eos_token_id": None}
_GROUPED = _DECODER | {"num_key_value_heads": 2}


def _bert() -> PreTrainedModel:
    return BertModel(BertConfig(**_TEXT))


def _roberta() -> PreTrainedModel:
    return RobertaModel(RobertaConfig(**_TEXT, bos_token_id=1, eos_token_id=2))


def _modernbert() -> PreTrainedModel:
    # local_attention counts both sides; the second layer is local
    config = ModernBertConfig(
        **_TEXT,
        initializer_cutoff_factor=2.0,
        local_attention=2 * (WINDOW // 2),
        global_attn_every_n_layers=2,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    )
    return ModernBertModel(config)


def _vit() -> PreTrainedModel:
    return ViTModel(ViTConfig(**_SIZES, intermediate_size=48, image_size=12, patch_size=4))


def _gpt2() -> PreTrainedModel:
    # the second layer's scale is not 1/sqrt(head_dim)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.3,
        scale_attn_by_inverse_layer_idx=True,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config)


def llama(**options: Any) -> LlamaForCausalLM:
    """A Llama with four query heads on two key heads."""
    return LlamaForCausalLM(LlamaConfig(**(_GROUPED | options)))


def _qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**_GROUPED))


def _qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**_GROUPED, head_dim=8))


def _gemma() -> PreTrainedModel:
    return GemmaForCausalLM(GemmaConfig(**(_GROUPED | {"num_key_value_heads": 1}), head_dim=8))


def _gemma3() -> PreTrainedModel:
    config = Gemma3TextConfig(
        **_GROUPED,
        head_dim=8,
        query_pre_attn_scalar=32,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    )
    return Gemma3ForCausalLM(config)


def _mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**_GROUPED, sliding_window=WINDOW))


def _phi() -> PreTrainedModel:
    return PhiForCausalLM(PhiConfig(**_DECODER))


ENCODERS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": _bert,
    "roberta": _roberta,
    "modernbert": _modernbert,
    "vit": _vit,
}
DECODERS: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2": _gpt2,
    "llama": llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "gemma3": _gemma3,
    "mistral": _mistral,
    "phi": _phi,
}
FAMILIES = ENCODERS | DECODERS
TEXT_FAMILIES = {name: build for name, build in FAMILIES.items() if name != "vit"}
WINDOWED = ("modernbert", "gemma3", "mistral")


@dataclass(frozen=True)
class Batch:
    """Inputs of a model, and which of its outputs to look at."""

    inputs: dict[str, Tensor]
    present: Tensor


def build(name: str) -> PreTrainedModel:
    """A model of a family in evaluation mode with its own SDPA attention, always the same."""
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    assert model.config._attn_implementation == "sdpa"
    return model


def batch_for(model: PreTrainedModel, padding: str = "none") -> Batch:
    """Three examples of different lengths, padded at the `left`, the `right`, or all full."""
    generator = torch.Generator().manual_seed(1)
    if model.config.model_type == "vit":
        pixels = torch.randn(3, 3, 12, 12, generator=generator)
        return Batch({"pixel_values": pixels}, torch.ones(3, 10, dtype=torch.bool))
    tokens = torch.randint(3, VOCABULARY, (3, LENGTH), generator=generator)
    mask = torch.ones(3, LENGTH, dtype=torch.int64)
    if padding == "left":
        mask[1, :2] = 0
        mask[2, :5] = 0
    elif padding == "right":
        mask[1, -2:] = 0
        mask[2, -5:] = 0
    tokens = tokens.masked_fill(mask == 0, 0)
    return Batch({"input_ids": tokens, "attention_mask": mask}, mask.bool())


def outputs_of(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits or last hidden states at the positions that are no padding."""
    return model(**batch.inputs)[0][batch.present]
