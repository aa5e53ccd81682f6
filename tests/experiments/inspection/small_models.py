"""Folders with tiny random models, as transformers saves them, and inputs for them."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BitImageProcessorPil,
    DebertaV2Config,
    DebertaV2Model,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
)

WORDS = "It is a truth universally acknowledged, that a single man in possession — of \U0001f9ea.\n"
POSITIONS = 300
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}
_TEXT = _SIZES | {"vocab_size": 258, "max_position_embeddings": POSITIONS, "pad_token_id": 0}


def _tokenizer(*, special: bool) -> PreTrainedTokenizerFast:
    """A token a byte; with `special`, `[CLS]` before and `[SEP]` behind, as BERT has it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(["[CLS]", "[SEP]", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _save(model: PreTrainedModel, folder: Path, *, special: bool = False) -> Path:
    model.save_pretrained(folder)
    _tokenizer(special=special).save_pretrained(folder)
    return folder


def llama(folder: Path, **options: Any) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(**(_TEXT | {"num_key_value_heads": 2} | options))
    return _save(LlamaForCausalLM(config), folder)


def bert(folder: Path) -> Path:
    torch.manual_seed(0)
    return _save(BertForMaskedLM(BertConfig(**_TEXT)), folder, special=True)


def deberta(folder: Path) -> Path:
    return _save(DebertaV2Model(DebertaV2Config(**_TEXT)), folder)


def t5(folder: Path) -> Path:
    config = T5Config(vocab_size=258, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return _save(T5ForConditionalGeneration(config), folder)


def vit(folder: Path) -> Path:
    torch.manual_seed(0)
    ViTModel(ViTConfig(**_SIZES, image_size=16, patch_size=4)).save_pretrained(folder)
    BitImageProcessorPil(
        size={"height": 16, "width": 16}, do_center_crop=False, do_resize=True
    ).save_pretrained(folder)
    return folder


def text(path: Path, count: int = 2) -> Path:
    path.write_text(WORDS * count, encoding="utf-8")
    return path


def image(path: Path) -> Path:
    picture = Image.radial_gradient("L").resize((30, 20)).convert("RGB")
    picture.save(path)
    return path
