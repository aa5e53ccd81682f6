"""Other implementations, each optional: the only module that imports their packages.

Peers that come as layers with projections get modules in place of the projections that hand over
the given query, key and value, so that every contender computes attention of the same numbers and
nothing else. Those layers lay heads out last, (batch, length, heads * head_dim); the values are
brought into that layout before the clock starts.
"""

# ruff: noqa: PLC0415  (a package that is not installed is missed where it is used)

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gibbsian.experiments.bench.case import Operation, Outputs, Tensors

LANDMARKS = 64
"""Of the Nystrom approximations."""
LINFORMER_RANK = 256
"""Length to which keys and values are projected: the package's default."""

Prepare = Callable[[Tensors], Operation]


def on(tensors: Tensors, call: Callable[[], Tensor], *names: str) -> Operation:
    """An operation on the tensors as they are."""
    leaves = {n: tensors[n] for n in names if tensors[n].requires_grad}
    return Operation(call=lambda: (call(),), leaves=leaves)


def softmax_of_rows(tensors: Tensors) -> Operation:
    """`torch.softmax`."""
    return on(tensors, lambda: tensors["scores"].softmax(dim=-1), "scores")


def entmax_sparsemax(tensors: Tensors) -> Operation:
    """`entmax.sparsemax`: every row with alpha = 2."""
    from entmax import sparsemax

    return on(tensors, lambda: sparsemax(tensors["scores"], dim=-1), "scores")


def entmax_15(tensors: Tensors) -> Operation:
    """`entmax.entmax15`: every row with alpha = 1.5."""
    from entmax import entmax15

    return on(tensors, lambda: entmax15(tensors["scores"], dim=-1), "scores")


def entmax_bisection(tensors: Tensors) -> Operation:
    """`entmax.entmax_bisect` with an alpha of its own for each row."""
    from entmax import entmax_bisect

    scores, alpha = tensors["scores"], tensors["alpha"]
    return on(tensors, lambda: entmax_bisect(scores, alpha, dim=-1), "scores", "alpha")


def sdpa(*, is_causal: bool = False) -> Prepare:
    """`torch.nn.functional.scaled_dot_product_attention`."""

    def prepare(tensors: Tensors) -> Operation:
        q, k, v = (tensors[name] for name in ("query", "key", "value"))
        return on(
            tensors,
            lambda: scaled_dot_product_attention(q, k, v, is_causal=is_causal),
            "query",
            "key",
            "value",
        )

    return prepare


def entmax15_attention(tensors: Tensors) -> Operation:
    """Scores of all pairs, `entmax.entmax15`, values mixed."""
    from entmax import entmax15

    q, k, v = (tensors[name] for name in ("query", "key", "value"))
    scale = q.shape[-1] ** -0.5
    return on(tensors, lambda: entmax15(scale * (q @ k.mT), dim=-1) @ v, "query", "key", "value")


def linear_attention(*, is_causal: bool = False) -> Prepare:
    """The attention of linear-attention-transformer, which takes query, key and value."""

    def prepare(tensors: Tensors) -> Operation:
        from linear_attention_transformer.linear_attention_transformer import (
            causal_linear_attn,
            linear_attn,
        )

        function = causal_linear_attn if is_causal else linear_attn
        q, k, v = (tensors[name] for name in ("query", "key", "value"))
        return on(tensors, lambda: function(q, k, v), "query", "key", "value")

    return prepare


def performer(tensors: Tensors) -> Operation:
    """`performer_pytorch.FastAttention`, which takes query, key and value."""
    with warnings.catch_warnings():
        # the package imports what Python and torch have deprecated
        warnings.simplefilter("ignore")
        from performer_pytorch import FastAttention

    torch.manual_seed(0)
    q, k, v = (tensors[name] for name in ("query", "key", "value"))
    layer = FastAttention(dim_heads=q.shape[-1]).eval()
    return on(tensors, lambda: layer(q, k, v), "query", "key", "value")


def nystrom(tensors: Tensors) -> Operation:
    """`nystrom_attention.NystromAttention` without its convolution of the values."""
    from nystrom_attention import NystromAttention

    _, heads, _, head_dim = tensors["query"].shape
    width = heads * head_dim
    # as one from the start: in the layer a single projection gives all three
    joint = torch.cat([t.detach() for t in _heads_last(tensors).values()], dim=-1)
    joint.requires_grad_(tensors["query"].requires_grad)
    layer = NystromAttention(
        width, dim_head=head_dim, heads=heads, num_landmarks=LANDMARKS, residual=False
    )
    layer.to_qkv = _Given(lambda: joint)
    layer.to_out = nn.Identity()
    return _layer(layer, {"qkv": joint}, joint[..., :width])


def linformer(tensors: Tensors) -> Operation:
    """`linformer.LinformerSelfAttention`; its projections along the length stay."""
    from linformer import LinformerSelfAttention

    torch.manual_seed(0)
    _, heads, length, head_dim = tensors["query"].shape
    given = _heads_last(tensors)
    layer = LinformerSelfAttention(heads * head_dim, length, k=LINFORMER_RANK, heads=heads)
    layer.to_q = _Given(lambda: given["query"])
    layer.to_k = _Given(lambda: given["key"])
    layer.to_v = _Given(lambda: given["value"])
    layer.to_out = nn.Identity()
    return _layer(layer, given, given["query"])


def nystromformer(tensors: Tensors) -> Operation:
    """The self-attention of transformers' Nystromformer, without its convolution of the values."""
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import (
        NystromformerSelfAttention,
    )

    _, heads, length, head_dim = tensors["query"].shape
    given = _heads_last(tensors)
    config = NystromformerConfig(
        hidden_size=heads * head_dim,
        num_attention_heads=heads,
        num_landmarks=LANDMARKS,
        segment_means_seq_len=length,
        attention_probs_dropout_prob=0.0,
    )
    layer: Any = NystromformerSelfAttention(config)
    layer.conv_kernel_size = None  # the layer honours it, the configuration does not accept it
    del layer.conv
    layer.query = _Given(lambda: given["query"])
    layer.key = _Given(lambda: given["key"])
    layer.value = _Given(lambda: given["value"])
    return _layer(layer, given, given["query"])


class _Given(nn.Module):
    """Stands in for a projection."""

    def __init__(self, give: Callable[[], Tensor]) -> None:
        super().__init__()
        self._give = give

    def forward(self, _: Tensor) -> Tensor:
        return self._give()


def _heads_last(tensors: Tensors) -> dict[str, Tensor]:
    return {
        name: tensors[name]
        .detach()
        .transpose(1, 2)
        .flatten(start_dim=2)
        .contiguous()
        .requires_grad_(tensors[name].requires_grad)
        for name in ("query", "key", "value")
    }


def _layer(layer: nn.Module, given: dict[str, Tensor], like: Tensor) -> Operation:
    """The layer called with `like`, of which only the shape matters."""
    layer.eval().requires_grad_(requires_grad=False)
    shown = like.detach()

    def call() -> Outputs:
        found: Any = layer(shown)
        return (found[0] if isinstance(found, tuple) else found,)

    leaves = {name: tensor for name, tensor in given.items() if tensor.requires_grad}
    return Operation(call=call, leaves=leaves)
