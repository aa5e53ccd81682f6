"""Whole models: one training iteration, and its memory, as the LLN paper's Table 2.

RoBERTa-base with random weights and batch 1, and transformers' Nystromformer of the same shape (64
landmarks, its convolution of 65); no dropout anywhere, AdamW, float32. The RoBERTa models are one:
its attention is exchanged between iterations, so that softmax, LLN, LLN+Diag and AES share their
weights.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import (
    NystromformerConfig,
    NystromformerForMaskedLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from gibbsian.attention import AES, LLN, Attention, LLNDiag
from gibbsian.experiments.bench.case import (
    Case,
    Check,
    Contender,
    Operation,
    Outputs,
    Quantity,
    Ratio,
    Tensors,
)
from gibbsian.experiments.bench.peers import LANDMARKS
from gibbsian.experiments.bench.shapes import Shapes
from gibbsian.experiments.bench.verify import largest, relative_error
from gibbsian.integrations.transformers import remove, use

PAPER_SECONDS = {
    ("LLN", "softmax"): {512: 1.05, 1024: 1.0, 2048: 0.67, 4096: 0.47},
    ("Nystromformer", "LLN"): {
        512: 1.8, 1024: 1.8, 2048: 1.6, 4096: 1.47, 8192: 1.44, 16384: 1.41,
    },
}  # fmt: skip
"""Ratios of Linear Log-Normal Attention, arXiv 2311.13541v4, Table 2, by length."""
PAPER_GIGABYTES = {
    "softmax": {512: 4.0, 1024: 5.5, 2048: 12.6, 4096: 32.1},
    "Nystromformer": {512: 4.0, 1024: 4.5, 2048: 5.5, 4096: 7.3, 8192: 11.6, 16384: 19.1},
    "LLN": {512: 4.1, 1024: 4.4, 2048: 5.7, 4096: 7.5, 8192: 12.0, 16384: 20.1},
    "LLN+Diag": {512: 4.1, 1024: 4.6, 2048: 6.1, 4096: 8.1, 8192: 13.4, 16384: 23.0},
}
"""The same table's memory."""
_PAIRS = (
    ("LLN", "softmax"),
    ("LLN+Diag", "softmax"),
    ("AES", "softmax"),
    ("Nystromformer", "softmax"),
    ("Nystromformer", "LLN"),
)
_ATTENTIONS: dict[str, Callable[[], Attention] | None] = {
    "LLN": LLN,
    "LLN+Diag": LLNDiag,
    "AES": AES,
    "softmax": None,
}
_FIRST_TOKEN = 5
_CHECK_LENGTH = 128
_CHECK_BOUND = 1e-3
# an inverse by six iterations amplifies roundings
_NYSTROM_CHECK_BOUND = 0.1


def model_cases(shapes: Shapes) -> Iterator[Case]:
    """Seconds and peak memory of an iteration at every length."""
    quantities: tuple[Quantity, ...] = ("seconds", "bytes")
    for length in (*shapes.model, *shapes.model_optional):
        for quantity in quantities:
            yield Case(
                name=f"model-{'iteration' if quantity == 'seconds' else 'memory'}-{length}",
                group="One training iteration of RoBERTa-base, batch 1"
                + (", peak memory" if quantity == "bytes" else ""),
                size=length,
                tensors=functools.partial(_tokens, shapes),
                contenders=_contenders(shapes),
                ratios=tuple(_ratios(length, quantity)),
                mode="iteration",
                quantity=quantity,
                optional=length in shapes.model_optional,
            )


def _ratios(length: int, quantity: Quantity) -> Iterator[Ratio]:
    for of, to in _PAIRS:
        if quantity == "seconds":
            paper = PAPER_SECONDS.get((of, to), {}).get(length)
            yield Ratio(of=of, to=to, bar=paper, paper=paper, higher_is_better=to == "LLN")
        else:
            above, below = (PAPER_GIGABYTES.get(name, {}).get(length) for name in (of, to))
            paper = above / below if above and below else None
            yield Ratio(of=of, to=to, paper=paper, higher_is_better=to == "LLN")


def _contenders(shapes: Shapes) -> tuple[Contender, ...]:
    ours = tuple(
        Contender(
            name=name,
            prepare=functools.partial(_prepare_roberta, shapes, make),
            check=functools.partial(_check, shapes, make),
            note="torch SDPA, through transformers" if make is None else "",
        )
        for name, make in _ATTENTIONS.items()
    )
    nystromformer = Contender(
        name="Nystromformer",
        prepare=functools.partial(_prepare_nystromformer, shapes),
        check=functools.partial(_check_nystromformer, shapes),
        note="transformers' own, 64 landmarks, with its convolution",
    )
    return (*ours, nystromformer)


def _tokens(shapes: Shapes, length: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(length)
    shape = (1, length)
    first, last = _FIRST_TOKEN, shapes.model_vocabulary
    return {
        "input_ids": torch.randint(first, last, shape, generator=generator),
        "labels": torch.randint(first, last, shape, generator=generator),
    }


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
        "num_attention_heads": shapes.model_width // 64,
        "intermediate_size": 4 * shapes.model_width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


@functools.lru_cache(maxsize=1)
def _roberta(shapes: Shapes, length: int) -> tuple[PreTrainedModel, AdamW]:
    model = build_roberta(shapes, length)
    return model, _optimizer(model)


def _optimizer(model: PreTrainedModel) -> AdamW:
    return AdamW(model.parameters(), lr=1e-5, fused=True)


def _prepare_roberta(
    shapes: Shapes, make: Callable[[], Attention] | None, tensors: Tensors
) -> Operation:
    model, optimizer = _roberta(shapes, tensors["input_ids"].shape[1])
    return Operation(
        call=lambda: _iterate(model, optimizer, tensors),
        leaves={},
        before=lambda: set_attention(model, make),
        after=lambda: require_finite(model),
    )


def _prepare_nystromformer(shapes: Shapes, tensors: Tensors) -> Operation:
    model = build_nystromformer(shapes, tensors["input_ids"].shape[1])
    optimizer = _optimizer(model)
    return Operation(
        call=lambda: _iterate(model, optimizer, tensors),
        leaves={},
        after=lambda: require_finite(model),
    )


def set_attention(model: PreTrainedModel, make: Callable[[], Attention] | None) -> None:
    """Give the model an attention, or torch's SDPA back."""
    remove(model, attn_implementation="sdpa")
    if make is not None:
        use(model, make())


def _iterate(model: PreTrainedModel, optimizer: AdamW, tensors: Tensors) -> Outputs:
    optimizer.zero_grad(set_to_none=True)
    loss: Tensor = model(**tensors).loss
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


@functools.lru_cache
def _check(shapes: Shapes, make: Callable[[], Attention] | None) -> Check:
    model = build_roberta(shapes, _CHECK_LENGTH, layers=2)
    set_attention(model, make)
    return _compare_precisions(model, shapes, _CHECK_BOUND)


@functools.lru_cache
def _check_nystromformer(shapes: Shapes) -> Check:
    model = build_nystromformer(shapes, _CHECK_LENGTH, layers=2)
    return _compare_precisions(model, shapes, _NYSTROM_CHECK_BOUND)


def _compare_precisions(model: PreTrainedModel, shapes: Shapes, bound: float) -> Check:
    """Loss, logits and all gradients in float32 against the same model in float64."""
    tokens = _tokens(shapes, _CHECK_LENGTH)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = _loss_and_gradients(model, tokens)
    # the moments that a training step moved, back
    model.load_state_dict(state)
    expected = _loss_and_gradients(model.double(), tokens)
    return Check(
        error=largest(map(relative_error, found, expected)),
        bound=bound,
        against=f"itself in float64, 2 layers, {_CHECK_LENGTH} positions",
    )


def _loss_and_gradients(model: PreTrainedModel, tokens: Tensors) -> Outputs:
    outputs = model(**tokens)
    gradients = torch.autograd.grad(outputs.loss, list(model.parameters()))
    # as one, because single ones may be 0 in truth: a bias of the keys changes no softmax row
    flat = torch.cat([g.flatten() for g in gradients])
    return (outputs.loss.detach()[None], outputs.logits.detach(), flat)
