"""Queries, keys and values of pretrained models that read a novel, layer by layer."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils.logging import disable_progress_bar

from gibbsian._errors import DataError
from gibbsian.experiments.pretrained import minilm_folder, smollm2_folder
from gibbsian.experiments.text import load_text

ModelName: TypeAlias = Literal["SmolLM2-135M", "MiniLM-L6"]
MODELS: tuple[ModelName, ...] = ("SmolLM2-135M", "MiniLM-L6")
NOT_INSTALLED = "weights not installed"
_RECORDER = "gibbsian_claims_recorder"
_FOLDERS = {"SmolLM2-135M": smollm2_folder, "MiniLM-L6": minilm_folder}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layer:
    """One layer's attention on one text."""

    model: str
    index: int
    query: Float[Tensor, "heads tokens head_dim"]
    key: Float[Tensor, "heads tokens head_dim"]
    """Repeated for the queries that share them."""
    value: Float[Tensor, "heads tokens head_dim"]
    """The same."""
    causal: bool

    def scores(
        self, rows: Int64[Tensor, "rows"] | None = None
    ) -> Float[Tensor, "heads rows tokens"]:
        """Scores of some queries, all by default, in float64; -inf where a key is not seen."""
        tokens = self.query.shape[1]
        rows = torch.arange(tokens) if rows is None else rows
        scale = self.query.shape[-1] ** -0.5
        scores: Tensor = (self.query[:, rows].double() @ self.key.double().mT) * scale
        if self.causal:
            scores = scores.masked_fill(torch.arange(tokens) > rows[:, None], -torch.inf)
        return scores


def missing_weights(*models: ModelName) -> str:
    """Which weights are not here and how to get them; empty if none."""
    reasons = []
    for name in models:
        try:
            _FOLDERS[name]()
        except DataError as error:  # noqa: PERF203  (two models)
            reasons.append(str(error))
    return f"{NOT_INSTALLED} ({' '.join(reasons).rstrip('.')})" if reasons else ""


@lru_cache(maxsize=1)
def language_model() -> PreTrainedModel:
    """SmolLM2-135M with its head, float32."""
    disable_progress_bar()  # the claims have one of their own
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        smollm2_folder(), dtype=torch.float32
    )
    model.eval()
    return model


@lru_cache(maxsize=2)
def _body(name: ModelName) -> PreTrainedModel:
    disable_progress_bar()
    model: PreTrainedModel = AutoModel.from_pretrained(_FOLDERS[name](), dtype=torch.float32)
    model.eval()
    return model


@lru_cache(maxsize=4)
def text_tokens(name: ModelName, length: int, window: int) -> Int64[Tensor, "1 length"]:
    """So many tokens of the novels, of the `window`-th stretch of 100,000 characters."""
    start = 100_000 * window
    text = load_text().content[start : start + 8 * length + 1000]
    tokenizer = AutoTokenizer.from_pretrained(_FOLDERS[name]())
    return torch.tensor([tokenizer(text, truncation=True, max_length=length)["input_ids"]])


@lru_cache(maxsize=6)
@torch.no_grad()
def real_layers(name: ModelName, length: int, window: int = 0) -> tuple[Layer, ...]:
    """Every layer of a pretrained model that reads a stretch of the novels.

    Queries and keys as they enter the attention (after rotary positions).
    """
    return recorded(
        _body(name), text_tokens(name, length, window), name, causal=name == "SmolLM2-135M"
    )


@torch.no_grad()
def recorded(
    model: PreTrainedModel, tokens: Int64[Tensor, "1 length"], name: str, *, causal: bool
) -> tuple[Layer, ...]:
    """Every layer's attention while a model reads; the model keeps its own implementation."""
    recorder = _Recorder()
    AttentionInterface.register(_RECORDER, recorder)
    AttentionMaskInterface.register(_RECORDER, sdpa_mask)
    own = model.config._attn_implementation  # noqa: SLF001  (transformers has no public name)
    model.set_attn_implementation(_RECORDER)
    try:
        model(tokens)
    finally:
        model.set_attn_implementation(own)
    return tuple(
        Layer(
            model=name,
            index=index,
            query=query,
            key=key.repeat_interleave(len(query) // len(key), dim=0),
            value=value.repeat_interleave(len(query) // len(value), dim=0),
            causal=causal,
        )
        for index, (query, key, value) in enumerate(recorder.layers)
    )


class _Recorder:
    """torch's attention, which remembers its queries, keys and values."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        self.layers.append((query[0].clone(), key[0].clone(), value[0].clone()))
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
