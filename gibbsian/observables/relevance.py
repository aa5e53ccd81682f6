r"""How much the output of a row would change if a key had not been there.

Derivation: docs/derivations/correlators.md#relevance.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._typing import Mask
from gibbsian.attention.inputs import AttentionInputs, checked_inputs
from gibbsian.normalizers import softmax
from gibbsian.normalizers.fused import fused_entmax
from gibbsian.numerics.masked import working_dtype
from gibbsian.observables.blocks import query_blocks, without_autocast
from gibbsian.observables.matrix import row_sparsity

_BLOCK_NUMBERS = 1 << 22
"""Scores of the rows without a key that are solved at once."""


@torch.no_grad()
@without_autocast
def leave_one_out(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    *,
    zeta: float | Tensor = 0.0,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "batch heads queries keys"]:
    r"""Norm of the change of each row's output when one key is deleted from that row.

    $$r_{ij} = \bigl\| o_i^{\setminus j} - o_i \bigr\|, \qquad
      \frac{p_{ij}}{1 - p_{ij}} \, \| o_i - v_j \| \text{ for softmax}$$

    Args:
        query: scores are scale * query . key. The result has a number for each query and key: give
            the queries that are asked about.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        value: one a key.
        zeta: sparsity of the rows: 0 softmax, a number in [0, 1] entmax, for AES the tensor that
            its statistics report (which stays, although the deletion changes the statistics);
            broadcastable to (batch, heads, queries).
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.

    Returns:
        Euclidean norms over the channels, in float32 or wider, without a graph; exactly 0 for a key
        without weight. Without its only key a row's output is 0.

    Raises:
        ArgumentError: inputs that do not fit (`gibbsian.attention.inputs`), zeta out of range.

    Notes:
        Exact. Softmax costs about as much as the attention with as many channels more as there are
        value channels; entmax solves a row again for each key of its support: O(keys) for each
        weight above 0. A few queries at a time.

    References:
        docs/derivations/correlators.md#relevance.
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
    change = inputs.query.new_zeros((*inputs.query.shape[:3], inputs.key.shape[2]))
    if change.numel() == 0:
        return change
    for part, block in query_blocks(inputs):
        zetas = sparsity[..., part]
        change[:, :, part] = _of_softmax(block)
        sparse = zetas > 0
        if bool(sparse.any()):
            change[:, :, part][sparse] = _of_entmax(block, zetas, sparse)
    return change


def _of_softmax(block: AttentionInputs) -> Tensor:
    scores = block.scores()
    weights = softmax(scores)
    output = block.mix(weights)
    values = block.value.repeat_interleave(block.group, dim=1)
    distance = _distances(output, values)
    largest = weights.argmax(dim=-1, keepdim=True)
    # the others lie below 1/2, and 1 - p loses nothing
    odds = weights / (1 - weights).clamp_min(0.5)
    change = odds * distance
    without = block.mix(softmax(scores.scatter(-1, largest, -torch.inf)))
    first = (without - output).norm(dim=-1, keepdim=True)
    return change.scatter(-1, largest, torch.where(weights.gather(-1, largest) > 0, first, 0.0))


def _distances(output: Tensor, values: Tensor) -> Tensor:
    """(..., queries, dim), (..., keys, dim) -> (..., queries, keys); without cancellation."""
    return torch.cdist(output, values, compute_mode="donot_use_mm_for_euclid_dist")


def _of_entmax(block: AttentionInputs, zeta: Tensor, asked: Tensor) -> Tensor:
    """The changes of the rows that are asked for, (rows, keys)."""
    scores = block.scores()
    weights = fused_entmax(scores, zeta.unsqueeze(-1))
    output = block.mix(weights)
    change = torch.zeros_like(weights)
    size = max(1, _BLOCK_NUMBERS // scores.shape[-1])
    for sample in range(scores.shape[0]):
        for head in range(scores.shape[1]):
            values = block.value[sample, head // block.group]
            there = (weights[sample, head] > 0) & asked[sample, head].unsqueeze(-1)
            for pairs in there.nonzero().split(size):
                row, deleted = pairs.unbind(dim=-1)
                left = scores[sample, head, row].scatter(-1, deleted.unsqueeze(-1), -torch.inf)
                without = fused_entmax(left, zeta[sample, head, row].unsqueeze(-1)) @ values
                moved = without - output[sample, head, row]
                change[sample, head, row, deleted] = moved.norm(dim=-1)
    return change[asked]
