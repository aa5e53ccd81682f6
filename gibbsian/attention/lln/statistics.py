"""Entropy and varentropy of LLN rows, in blocks of queries."""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.attention.base import AttentionStatistics
from gibbsian.attention.lln.masks import LinearMask
from gibbsian.attention.lln.reference import lln_scores
from gibbsian.attention.lln.state import finite, query_features
from gibbsian.attention.row_statistics import row_statistics
from gibbsian.normalizers import entmax
from gibbsian.statistics import GibbsStatistics, gibbs_statistics

_BLOCK_NUMBERS = 2**22
"""Scores held at once, over batch and heads."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlockScores:
    """What the softmax half of an LLN+Diag row is made of."""

    query: Float[Tensor, "batch heads queries head_dim"]
    key: Float[Tensor, "batch heads keys head_dim"]
    scale: float
    """Factor of the scores."""
    block_size: int
    """Keys in a block."""

    def scores(self, start: int, stop: int) -> Float[Tensor, "batch heads rows keys"]:
        """Scores of the queries from `start` to `stop`."""
        return self.scale * self.query[:, :, start:stop] @ self.key.mT


@torch.no_grad()
def lln_statistics(
    log_query: Float[Tensor, "batch heads queries head_dim"],
    log_key: Float[Tensor, "batch heads keys head_dim"],
    mask: LinearMask,
    diagonal: BlockScores | None = None,
) -> AttentionStatistics:
    r"""Statistics of the rows of LLN, or of LLN+Diag if `diagonal` is given.

    Args:
        log_query: a = query_scale q, float32 or wider.
        log_key: b = key_scale k, finite; absent keys are taken from `mask`.
        mask: as `linear_mask` returns it.
        diagonal: the softmax half.

    Notes:
        The entropy of a sum of exponentials is not linear in it, so there is no O(N) form: this
        takes O(queries keys head_dim) time, but holds only a block of rows at a time. Detached.
    """
    batch, heads = log_query.shape[:2]
    if mask.queries == 0 or mask.keys == 0:
        nothing = gibbs_statistics(log_query.new_zeros(batch, heads, mask.queries, mask.keys))
        return row_statistics(nothing, nothing.entropy, nothing.num_states)
    step = max(1, _BLOCK_NUMBERS // max(1, batch * heads * mask.keys))
    blocks = []
    for start in range(0, mask.queries, step):
        stop = min(start + step, mask.queries)
        visible = mask.rows(start, stop, device=log_query.device)
        scores = _row_scores(log_query[:, :, start:stop], log_key)
        if diagonal is not None:
            products = diagonal.scores(start, stop)
            same_block = mask.same_block(
                start, stop, block_size=diagonal.block_size, device=scores.device
            )
            scores = _mixed_log_weights(scores, products, visible, visible & same_block)
        blocks.append(gibbs_statistics(scores, mask=visible))
    statistics = GibbsStatistics(
        **{
            field.name: torch.cat([getattr(block, field.name) for block in blocks], dim=-1)
            for field in fields(GibbsStatistics)
        }
    )
    return row_statistics(statistics, torch.zeros_like(statistics.entropy), statistics.num_states)


def _row_scores(log_query: Tensor, log_key: Tensor) -> Tensor:
    """`lln_scores` up to a shift of each row, by one product where the exponents' range allows."""
    shift = log_key.amax(dim=-2)
    spread = (shift - log_key.amin(dim=-2)).amax()
    # then the weight of every key is a normal number in the feature that is largest for its query
    if bool(spread < -0.9 * math.log(torch.finfo(log_key.dtype).tiny)):
        features = (log_key - finite(shift).unsqueeze(-2)).exp()
        return (query_features(log_query, shift) @ features.mT).log()
    # a slice at a time: this form holds head_dim numbers for each score
    return torch.cat([lln_scores(row, log_key) for row in log_query.split(1, dim=-2)], dim=-2)


def _mixed_log_weights(
    scores: Tensor, products: Tensor, visible: Tensor, in_block: Tensor
) -> Tensor:
    """Log of the mean of LLN's weights and the diagonal blocks' softmax."""
    long_range = entmax(scores, 0.0, mask=visible)
    short_range = entmax(products, 0.0, mask=in_block)
    # A row that sees anything of its block sees at least one key there.
    has_block = in_block.any(dim=-1, keepdim=True)
    weights = torch.where(has_block, (long_range + short_range) / 2, long_range)
    # a key too far behind for its weight is seen all the same
    return weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
