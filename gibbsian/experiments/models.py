"""Small transformers of standard shape, from Hugging Face configurations."""

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from gibbsian.experiments.config import CompareConfig


def build_model(config: CompareConfig, num_tokens: int, seed: int) -> PreTrainedModel:
    """A model with initial weights that depend on the seed and the sizes only.

    Decoder: Llama (RMS norm, rotary positions, gated feed-forward of 8/3 width). Encoder: BERT
    (post-norm, learned positions, feed-forward of 4 widths), without dropout. The encoder has one
    token more, its mask.
    """
    torch.manual_seed(seed)
    if config.model == "decoder":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=num_tokens,
                hidden_size=config.width,
                intermediate_size=8 * round(config.width / 3),
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                max_position_embeddings=config.context,
                bos_token_id=None,
                eos_token_id=None,
                use_cache=False,
            )
        )
    return BertForMaskedLM(
        BertConfig(
            vocab_size=num_tokens + 1,
            hidden_size=config.width,
            intermediate_size=4 * config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.context,
            type_vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=None,
        )
    )
