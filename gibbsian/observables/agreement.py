r"""How far the heads of a layer differ in what they attend to."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask
from gibbsian.attention.inputs import AttentionInputs, checked_inputs
from gibbsian.normalizers import softmax

_BLOCK_NUMBERS = 1 << 22
"""Weights of a block of rows, over all heads."""


@torch.no_grad()
def head_agreement(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    rows: int | Int[Tensor, "rows"] = 64,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "batch heads"]:
    r"""Mean total variation distance of each head's rows to those of the other heads.

    $$D_h = \frac{1}{H - 1} \sum_{g \ne h} \Bigl\langle
      \tfrac12 \sum_j |p^{(h)}_{ij} - p^{(g)}_{ij}| \Bigr\rangle_i$$

    0: all heads of the layer have the same rows; 1: no two of them look at a common key.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        rows: which queries to average over: their indices, or how many of them, evenly spaced and
            with the last one (fewer if there are fewer).
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.

    Returns:
        The distance of each head, without a graph, in float32 or wider. A row where one of the two
        heads sees no key does not count; 0 where nothing is left to compare with.

    Raises:
        ArgumentError: inputs that do not fit, rows < 1, or an index that is no query's.

    Notes:
        O(rows keys heads (head_dim + heads)) time, memory linear in the number of keys.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        query, key = query.detach().to(wide), key.detach().to(wide)
        inputs = checked_inputs(
            query,
            key,
            key,
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )
        chosen = _chosen(rows, inputs)
        batch, heads = query.shape[:2]
        distance = query.new_zeros(batch, heads, heads)
        count = torch.zeros_like(distance)
        size = max(1, _BLOCK_NUMBERS // max(1, batch * heads * key.shape[2]))
        for part in chosen.split(size):
            weights = _weights(inputs, part).transpose(1, 2)
            seen = (weights > 0).any(dim=-1).to(wide)
            both = seen.unsqueeze(-1) * seen.unsqueeze(-2)
            distance += (both * torch.cdist(weights, weights, p=1.0)).sum(dim=1) / 2
            count += both.sum(dim=1)
        return _mean_over_others(distance, count)


def _chosen(rows: int | Tensor, inputs: AttentionInputs) -> Tensor:
    queries, device = inputs.query.shape[2], inputs.query.device
    if isinstance(rows, int):
        if rows < 1:
            raise ArgumentError(f"`rows` must be >= 1, got {rows}. 64 is usual.")
        # the last of each of `count` equal stretches
        count = min(rows, queries)
        ends = torch.arange(1, count + 1, device=device) * queries
        return ends // max(count, 1) - 1
    if bool(((rows < 0) | (rows >= queries)).any()):
        raise ArgumentError(
            f"`rows` must be indices of the {queries} queries, got "
            f"{rows[(rows < 0) | (rows >= queries)][0].item()}. Count them from 0."
        )
    return rows.to(device)


def _weights(inputs: AttentionInputs, rows: Tensor) -> Tensor:
    """Softmax rows of these queries, (batch, heads, rows, keys)."""
    query = inputs.query[:, :, rows] * inputs.scale
    scores = inputs.ungrouped(inputs.grouped(query) @ inputs.key.mT)
    if inputs.mask is not None:
        mask = inputs.mask if inputs.mask.shape[2] == 1 else inputs.mask[:, :, rows]
        scores = scores.masked_fill(~mask, -torch.inf)
    if inputs.is_causal:
        later = torch.arange(scores.shape[-1], device=rows.device) > rows.unsqueeze(-1)
        scores = scores.masked_fill(later, -torch.inf)
    weights: Tensor = softmax(scores)
    return weights


def _mean_over_others(distance: Tensor, count: Tensor) -> Tensor:
    """Means over rows, then over the other heads that have any row in common."""
    mean = distance / count.clamp_min(1)
    others = (count > 0).to(mean)
    others.diagonal(dim1=-2, dim2=-1).zero_()
    return (others * mean).sum(dim=-1) / others.sum(dim=-1).clamp_min(1)
