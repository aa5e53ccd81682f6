r"""LLN and LLN+Diag attention as their equations say, in O(queries keys head_dim) memory.

$$P_{ij} = \frac{\sum_f e^{\alpha q_{if}} e^{\beta k_{jf}}}{\sum_l \sum_f e^{\alpha q_{if}} e^{\beta
k_{lf}}} = \mathrm{softmax}_j \log \sum_f e^{a_{if} + b_{jf}}$$

This is the specification that the linear forms are tested against.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.attention.lln.masks import LinearMask
from gibbsian.normalizers import entmax


def lln_scores(
    log_query: Float[Tensor, "batch heads queries head_dim"],
    log_key: Float[Tensor, "batch heads keys head_dim"],
) -> Float[Tensor, "batch heads queries keys"]:
    r"""Scores whose Gibbs distribution is an LLN row: $\log \sum_f e^{a_{if}+b_{jf}}$, eq. (8)."""
    return (log_query.unsqueeze(-2) + log_key.unsqueeze(-3)).logsumexp(dim=-1)


def lln_weights(
    log_query: Float[Tensor, "batch heads queries head_dim"],
    log_key: Float[Tensor, "batch heads keys head_dim"],
    mask: LinearMask,
) -> Float[Tensor, "batch heads queries keys"]:
    """The matrix P; a row that sees no key is 0."""
    visible = mask.rows(0, mask.queries, device=log_query.device)
    return entmax(lln_scores(log_query, log_key), 0.0, mask=visible)


def lln_diag_weights(
    log_query: Float[Tensor, "batch heads queries head_dim"],
    log_key: Float[Tensor, "batch heads keys head_dim"],
    scores: Float[Tensor, "batch heads queries keys"],
    mask: LinearMask,
    *,
    block_size: int,
) -> Float[Tensor, "batch heads queries keys"]:
    """The mean of P and of the softmax of `scores` within diagonal blocks (section 4.2).

    A query that is no present key itself has no block, and keeps its row of P.
    """
    long_range = lln_weights(log_query, log_key, mask)
    visible = mask.rows(0, mask.queries, device=log_query.device)
    same_block = mask.same_block(0, mask.queries, block_size=block_size, device=log_query.device)
    short_range = entmax(scores, 0.0, mask=visible & same_block)
    has_block = same_block.any(dim=-1, keepdim=True)
    return torch.where(has_block, (long_range + short_range) / 2, long_range)
