r"""What attention's irrelevant keys do to its output, for a given set of relevant ones.

Derivation: docs/derivations/correlators.md#relevant.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask
from gibbsian.attention.inputs import checked_inputs
from gibbsian.normalizers.fused import fused_entmax
from gibbsian.numerics.masked import working_dtype
from gibbsian.observables.blocks import query_blocks, without_autocast
from gibbsian.observables.matrix import row_sparsity


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EffectiveCorrelation:
    """Of every sample and head, and of every row; R is the set of relevant keys."""

    correlation: Float[Tensor, "batch heads"]
    r"""$\rho$: Pearson's correlation, over rows and channels, of the output with the output of the
    weights restricted to R and renormalised; in [-1, 1], 0 where one of them does not vary."""
    leakage: Float[Tensor, "batch heads queries"]
    r"""Weight outside R, $\sum_{b \notin R} p_b$, in [0, 1]."""
    cross_correlation: Float[Tensor, "batch heads queries"]
    r"""$K = \sum_{a \in R, b \notin R} s_a q_b \ge 0$, how relevant weights answer to irrelevant
    scores; $p_R (1 - p_R)$ for softmax."""


@torch.no_grad()
@without_autocast
def effective_correlation(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    relevant: Bool[Tensor, "..."],
    *,
    zeta: float | Tensor = 0.0,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> EffectiveCorrelation:
    r"""Effective correlation, leakage and cross-correlation for a set of relevant keys.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        value: one a key.
        relevant: R, True = relevant; broadcastable to (batch, heads, queries, keys). Keys that a
            query does not see do not count.
        zeta: sparsity of the rows: 0 softmax, a number in [0, 1] entmax, for AES the tensor that
            its statistics report; broadcastable to (batch, heads, queries).
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.

    Returns:
        `EffectiveCorrelation` in float32 or wider, without a graph. Rows without weight on R do not
        count in the correlation; they leak all. A row without keys has 0 everywhere.

    Raises:
        ArgumentError: inputs that do not fit, or `relevant` not boolean or not broadcastable.

    Notes:
        O(queries keys (head_dim + value_dim)) time in blocks of queries, memory linear in the
        length, besides `relevant` as it was given.

    References:
        docs/derivations/correlators.md#relevant.
    """
    dtype = working_dtype(query)
    inputs = checked_inputs(
        query.detach().to(dtype),
        key.detach().to(dtype),
        value.detach().to(dtype),
        mask=mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )
    sparsity = row_sparsity(zeta, inputs.query)
    full = (*inputs.query.shape[:3], inputs.key.shape[2])
    relevant = expanded_relevance(relevant, full)
    shape = (*full[:3], inputs.value.shape[-1])
    outputs, restricted = (inputs.value.new_zeros(shape) for _ in range(2))
    kept, leakage, cross = (inputs.query.new_zeros(full[:3]) for _ in range(3))
    for part, block in query_blocks(inputs):
        rows = sparsity[..., part].unsqueeze(-1)
        weights = fused_entmax(block.scores(), rows)
        inside = relevant[:, :, part]
        within = torch.where(inside, weights, 0.0)
        mass = within.sum(dim=-1, keepdim=True)
        outputs[:, :, part] = block.mix(weights)
        restricted[:, :, part] = block.mix(within / torch.where(mass > 0, mass, 1.0))
        kept[..., part] = mass.squeeze(-1)
        leakage[..., part] = torch.where(inside, 0.0, weights).sum(dim=-1)
        response = torch.where(weights > 0, weights, 1.0) ** (1 - rows)
        response = torch.where(weights > 0, response, 0.0)
        to_relevant = torch.where(inside, response, 0.0).sum(dim=-1)
        to_others = torch.where(inside, 0.0, response).sum(dim=-1)
        total = to_relevant + to_others
        cross[..., part] = to_relevant * to_others / torch.where(total > 0, total, 1.0)
    return EffectiveCorrelation(
        correlation=_pearson(outputs, restricted, kept > 0),
        leakage=leakage,
        cross_correlation=cross,
    )


def expanded_relevance(relevant: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """The set of relevant keys of every row, checked.

    Raises:
        ArgumentError: not boolean, or not broadcastable to (batch, heads, queries, keys).
    """
    if relevant.dtype != torch.bool:
        raise ArgumentError(
            f"`relevant` must be boolean, True = relevant, got {relevant.dtype}. "
            "Of numbers, `relevant > 0` is."
        )
    try:
        return relevant.expand(shape)
    except RuntimeError:
        raise ArgumentError(
            f"`relevant` must broadcast to (batch, heads, queries, keys) {shape}, got "
            f"{tuple(relevant.shape)}. One set a sample is `relevant[:, None, None, :]`."
        ) from None


def _pearson(left: Tensor, right: Tensor, counted: Tensor) -> Float[Tensor, "batch heads"]:
    """Correlation over the counted rows and all channels."""
    there = counted.unsqueeze(-1).expand(left.shape)
    number = there.sum(dim=(-2, -1), keepdim=True).clamp_min(1)
    deviations = []
    for side in (left, right):
        values = torch.where(there, side.double(), 0.0)
        mean = values.sum(dim=(-2, -1), keepdim=True) / number
        deviations.append(torch.where(there, values - mean, 0.0))
    first, second = deviations
    norm = (first.square().sum(dim=(-2, -1)) * second.square().sum(dim=(-2, -1))).sqrt()
    covariance = (first * second).sum(dim=(-2, -1))
    correlation = torch.where(norm > 0, covariance / torch.where(norm > 0, norm, 1.0), 0.0)
    return correlation.clamp(-1, 1).to(left.dtype)
