"""Whole models: one training iteration, and its memory, as the LLN paper's Table 2.

In float32, and under autocast in bfloat16, in which models of this kind are trained.
The RoBERTa models are one: its attention is exchanged between iterations, so that softmax, LLN,
LLN+Diag, AES and no attention share their weights.
"""

import functools
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch.optim import AdamW
from transformers import PreTrainedModel

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
from gibbsian.experiments.bench.memory import require_memory
from gibbsian.experiments.bench.models import (
    VALUES_ONLY,
    Precision,
    build_nystromformer,
    build_optimizer,
    build_roberta,
    iterate,
    masked_tokens,
    predict_masked,
    require_finite,
    set_attention,
    weights_bytes,
)
from gibbsian.experiments.bench.shapes import Shapes
from gibbsian.experiments.bench.verify import largest, relative_error

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
_SOFTMAX, _SQUARE, _NOTHING = "softmax", "softmax, N x N", "no attention"
_PAIRS = (
    ("LLN", _SOFTMAX),
    ("LLN", _SQUARE),
    ("LLN+Diag", _SOFTMAX),
    ("LLN+Diag", _SQUARE),
    ("AES", _SOFTMAX),
    ("Nystromformer", _SOFTMAX),
    ("Nystromformer", "LLN"),
    (_NOTHING, _SOFTMAX),
    (_NOTHING, _SQUARE),
    ("Nystromformer", _NOTHING),
)
_ATTENTIONS: dict[str, Callable[[], Attention] | str] = {
    "LLN": LLN,
    "LLN+Diag": LLNDiag,
    "AES": AES,
    _SOFTMAX: "sdpa",
    _SQUARE: "eager",
    _NOTHING: VALUES_ONLY,
}
_NOTES = {
    "AES": (
        "rows of random weights are nearly uniform, so that SmoothStep() leaves them dense: "
        "nothing is saved by sparsity"
    ),
    _SOFTMAX: "torch SDPA, through transformers",
    _SQUARE: (
        "transformers' eager attention, which writes the weights out, as the paper's softmax "
        "must have done: the 32.1 GB that it states at 4096 are mostly those"
    ),
    _NOTHING: (
        "the values go straight through: what every attention adds to; but for noise (a few "
        "per cent in three rounds) no ratio over softmax can be lower, and none of Nystromformer "
        "over LLN higher than its ratio over this"
    ),
}
_WEIGHTS_LIMIT = 16 * 10**9
"""Bytes of weights beyond which the attention that writes them out is not tried."""
_CHECK_LENGTH = 128
_CHECK_BOUND: dict[Precision, float] = {"float32": 1e-5, "bfloat16": 0.03}
# an inverse by six iterations amplifies roundings
_NYSTROM_CHECK_BOUND: dict[Precision, float] = {"float32": 0.003, "bfloat16": 0.25}
_TITLES: dict[Precision, str] = {"float32": "", "bfloat16": ", bfloat16 autocast"}


def model_cases(shapes: Shapes) -> Iterator[Case]:
    """Seconds and peak memory of an iteration at every length and in both precisions."""
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    quantities: tuple[Quantity, ...] = ("seconds", "bytes")
    lengths = (*shapes.model, *shapes.model_optional)
    for precision, length, quantity in product(precisions, lengths, quantities):
        kind = "iteration" if quantity == "seconds" else "memory"
        name = f"model-{kind}" + ("" if precision == "float32" else f"-{precision}")
        yield Case(
            name=f"{name}-{length}",
            group=f"One training iteration of RoBERTa-base, batch 1{_TITLES[precision]}"
            + (", peak memory" if quantity == "bytes" else ""),
            size=length,
            tensors=functools.partial(masked_tokens, shapes),
            contenders=_contenders(shapes, length, precision),
            ratios=tuple(_ratios(length, quantity)),
            mode="iteration",
            quantity=quantity,
            optional=length in shapes.model_optional,
        )


def _ratios(length: int, quantity: Quantity) -> Iterator[Ratio]:
    for of, to in _PAIRS:
        if quantity == "seconds":
            # the paper's softmax, whichever of the two it is compared with
            known = PAPER_SECONDS.get((of, _SOFTMAX if to == _SQUARE else to), {})
            paper = known.get(length)
            yield Ratio(of=of, to=to, bar=paper, paper=paper, higher_is_better=to == "LLN")
        else:
            names = (of, _SOFTMAX if to == _SQUARE else to)
            above, below = (PAPER_GIGABYTES.get(name, {}).get(length) for name in names)
            paper = above / below if above and below else None
            yield Ratio(of=of, to=to, paper=paper, higher_is_better=to == "LLN")


def _contenders(shapes: Shapes, length: int, precision: Precision) -> tuple[Contender, ...]:
    ours = tuple(
        Contender(
            name=name,
            prepare=functools.partial(_prepare_roberta, shapes, attention, precision),
            check=functools.partial(_check, shapes, attention, precision),
            note=_NOTES.get(name, ""),
            left_out=_too_large(shapes, length, precision) if name == _SQUARE else None,
        )
        for name, attention in _ATTENTIONS.items()
    )
    nystromformer = Contender(
        name="Nystromformer",
        prepare=functools.partial(_prepare_nystromformer, shapes, precision),
        check=functools.partial(_check_nystromformer, shapes, precision),
        note="transformers' own, 64 landmarks, with its convolution",
    )
    return (*ours, nystromformer)


def _too_large(shapes: Shapes, length: int, precision: Precision) -> str | None:
    size = weights_bytes(shapes, length, precision)
    if size <= _WEIGHTS_LIMIT:
        return None
    return (
        f"its weights alone, {shapes.model_layers} layers of {length} x {length} a head, are "
        f"{size / 1e9:.0f} GB"
    )


@functools.lru_cache(maxsize=1)
def _roberta(shapes: Shapes, length: int) -> tuple[PreTrainedModel, AdamW]:
    model = build_roberta(shapes, length)
    return model, build_optimizer(model)


def _prepare_roberta(
    shapes: Shapes,
    attention: Callable[[], Attention] | str,
    precision: Precision,
    tensors: Tensors,
) -> Operation:
    length = tensors["input_ids"].shape[1]
    model, optimizer = _roberta(shapes, length)
    if attention == "eager":
        # and a layer's scores and gradients, the activations, another model
        require_memory(5 * weights_bytes(shapes, length, precision) // 3)
    return Operation(
        call=lambda: iterate(model, optimizer, tensors, precision),
        leaves={},
        before=lambda: set_attention(model, attention),
        after=lambda: require_finite(model),
    )


def _prepare_nystromformer(shapes: Shapes, precision: Precision, tensors: Tensors) -> Operation:
    model = build_nystromformer(shapes, tensors["input_ids"].shape[1])
    optimizer = build_optimizer(model)
    return Operation(
        call=lambda: iterate(model, optimizer, tensors, precision),
        leaves={},
        after=lambda: require_finite(model),
    )


@functools.lru_cache
def _check(shapes: Shapes, attention: Callable[[], Attention] | str, precision: Precision) -> Check:
    model = build_roberta(shapes, _CHECK_LENGTH, layers=2)
    set_attention(model, attention)
    return _compare_precisions(model, shapes, precision, _CHECK_BOUND[precision])


@functools.lru_cache
def _check_nystromformer(shapes: Shapes, precision: Precision) -> Check:
    model = build_nystromformer(shapes, _CHECK_LENGTH, layers=2)
    return _compare_precisions(model, shapes, precision, _NYSTROM_CHECK_BOUND[precision])


def _compare_precisions(
    model: PreTrainedModel, shapes: Shapes, precision: Precision, bound: float
) -> Check:
    """Loss, logits and all gradients as timed against the same model in float64."""
    tensors = masked_tokens(shapes, _CHECK_LENGTH)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = _results(model, tensors, precision)
    # the moments that a training step moved, back
    model.load_state_dict(state)
    expected = _results(model.double(), tensors, "float32")
    return Check(
        error=largest(map(relative_error, found, expected)),
        bound=bound,
        against=f"itself in float64, 2 layers, {_CHECK_LENGTH} positions",
    )


def _results(model: PreTrainedModel, tensors: Tensors, precision: Precision) -> Outputs:
    logits, loss = predict_masked(model, tensors, precision)
    parameters = dict(model.named_parameters())
    found = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    # as one, because single ones may be 0 in truth: a bias of the keys changes no softmax row
    ends = ("", "self.query.weight", "self.key.weight", "self.value.weight")
    groups = ([g for name, g in found.items() if name.endswith(end)] for end in ends)
    gradients = (torch.cat([g.flatten() for g in group]) for group in groups)
    return (loss.detach()[None], logits.detach(), *gradients)
