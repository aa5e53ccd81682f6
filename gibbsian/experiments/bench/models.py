"""The whole models of the benchmark, and what one training iteration of them is.

RoBERTa-base with random weights and batch 1, and transformers' Nystromformer of the same shape (64
landmarks, its convolution of 65), trained as masked language models; no dropout anywhere, AdamW,
weights in float32.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import AdamW
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    NystromformerConfig,
    NystromformerForMaskedLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
)
from transformers.masking_utils import sdpa_mask

from gibbsian.attention import Attention
from gibbsian.experiments.bench.case import Outputs, Tensors
from gibbsian.experiments.bench.peers import LANDMARKS
from gibbsian.experiments.bench.shapes import Shapes
from gibbsian.integrations.transformers import remove, use

Precision: TypeAlias = Literal["float32", "bfloat16"]
"""What matrix products are computed in; bfloat16 is torch's autocast."""
HEAD_DIM = 64
"""Numbers in a query, key or value."""
VALUES_ONLY = "bench_values_only"
"""transformers' name of what attends to nothing: `pass_values`."""
_FIRST_TOKEN = 5
_MASKED = 0.15


def build_roberta(shapes: Shapes, length: int, *, layers: int | None = None) -> PreTrainedModel:
    """RoBERTa of the benchmark's shape, in training mode, the same weights every time."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=shapes.model_vocabulary,
        max_position_embeddings=length + 2,
        type_vocab_size=1,
        **_shared(shapes, layers),
    )
    model: PreTrainedModel = RobertaForMaskedLM(config)
    model.set_attn_implementation("sdpa")
    model.train()
    return model


def build_nystromformer(
    shapes: Shapes, length: int, *, layers: int | None = None
) -> PreTrainedModel:
    """Nystromformer of the same shape."""
    torch.manual_seed(0)
    config = NystromformerConfig(
        vocab_size=shapes.model_vocabulary,
        max_position_embeddings=length,
        segment_means_seq_len=length,
        num_landmarks=LANDMARKS,
        type_vocab_size=1,
        **_shared(shapes, layers),
    )
    model: PreTrainedModel = NystromformerForMaskedLM(config)
    model.train()
    return model


def _shared(shapes: Shapes, layers: int | None) -> dict[str, Any]:
    return {
        "hidden_size": shapes.model_width,
        "num_hidden_layers": shapes.model_layers if layers is None else layers,
        "num_attention_heads": shapes.model_width // HEAD_DIM,
        "intermediate_size": 4 * shapes.model_width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def weights_bytes(shapes: Shapes, length: int, precision: Precision) -> int:
    """What the attention weights of all layers hold until the backward pass, written out."""
    heads = shapes.model_width // HEAD_DIM
    size: int = getattr(torch, precision).itemsize
    return size * shapes.model_layers * heads * length**2


def set_attention(model: PreTrainedModel, attention: Callable[[], Attention] | str) -> None:
    """Give the model one of our attentions, or the one that transformers knows by this name."""
    if isinstance(attention, str):
        remove(model, attn_implementation=attention)
    else:
        remove(model)
        use(model, attention())


class _Values(torch.autograd.Function):
    """The values; gradients of 0 in queries and keys."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key = ctx.saved_tensors
        return torch.zeros_like(query), torch.zeros_like(key), upstream


def pass_values(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """An attention in which each position sees itself alone: it computes nothing at all.

    Queries and keys get gradients of 0, so that their layers cost what they do under any other.
    """
    del module
    output: Tensor = _Values.apply(query, key, value)
    return output.transpose(1, 2).contiguous(), None


AttentionInterface.register(VALUES_ONLY, pass_values)
AttentionMaskInterface.register(VALUES_ONLY, sdpa_mask)


def build_optimizer(model: PreTrainedModel) -> AdamW:
    """AdamW of the iteration."""
    return AdamW(model.parameters(), lr=1e-5, fused=True)


def masked_tokens(shapes: Shapes, length: int) -> dict[str, Tensor]:
    """Random tokens, 15 % of them masked and to be predicted; always the same.

    Returns:
        `input_ids` (1, length); `masked` (1, length), where the mask's token stands in them; and
        `targets` (masked positions,), what stood there.
    """
    generator = torch.Generator().manual_seed(length)
    mask_token = shapes.model_vocabulary - 1
    tokens = torch.randint(_FIRST_TOKEN, mask_token, (1, length), generator=generator)
    masked = torch.zeros(1, length, dtype=torch.bool)
    masked[0, torch.randperm(length, generator=generator)[: round(_MASKED * length)]] = True
    return {
        "input_ids": tokens.masked_fill(masked, mask_token),
        "masked": masked,
        "targets": tokens[masked],
    }


def predict_masked(
    model: PreTrainedModel, tensors: Tensors, precision: Precision
) -> tuple[Tensor, Tensor]:
    """Logits of the masked positions, and their mean cross entropy.

    The vocabulary's layer is applied where a loss is taken and nowhere else, as in RoBERTa's
    original training; transformers' forward pass would apply it to every position.
    """
    head = model.get_submodule("lm_head" if isinstance(model, RobertaForMaskedLM) else "cls")
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        states = model.base_model(input_ids=tensors["input_ids"]).last_hidden_state
        logits: Tensor = head(states[tensors["masked"]])
        return logits, cross_entropy(logits, tensors["targets"])


def iterate(
    model: PreTrainedModel, optimizer: AdamW, tensors: Tensors, precision: Precision
) -> Outputs:
    """Forward, backward, step; the loss.

    Raises:
        FloatingPointError: it is not finite.
    """
    optimizer.zero_grad(set_to_none=True)
    _, loss = predict_masked(model, tensors, precision)
    loss.backward()
    optimizer.step()
    if not loss.isfinite():
        raise FloatingPointError("the loss of the iteration is not finite")
    return (loss.detach(),)


def require_finite(model: nn.Module) -> None:
    """Raise if a gradient that an iteration left is not finite.

    Raises:
        FloatingPointError: naming the first such parameter.
    """
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise FloatingPointError(f"the iteration's gradient of {name} is not finite")
