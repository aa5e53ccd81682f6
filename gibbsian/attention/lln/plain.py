"""LLN and LLN+Diag in ordinary torch operations, in the form that fits the mask."""

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.attention.lln.bidirectional import bidirectional_lln
from gibbsian.attention.lln.causal import causal_lln
from gibbsian.attention.lln.diag import block_diagonal_attention
from gibbsian.attention.lln.masks import LinearMask


def plain_lln(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads keys head_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    query_scale: Float[Tensor, "#batch #heads"] | Float[Tensor, "#heads"] | Float[Tensor, ""],
    key_scale: Float[Tensor, "#batch #heads"] | Float[Tensor, "#heads"] | Float[Tensor, ""],
    *,
    mask: LinearMask,
    block_size: int,
    scale: float,
) -> Float[Tensor, "batch heads queries value_dim"]:
    """Output of every query, twice differentiable in the five tensors.

    Args:
        query: float32 or wider, as are the other tensors.
        key: absent keys must be finite.
        value: the same.
        query_scale: log features are query_scale * query.
        key_scale: the same.
        mask: as `linear_mask` returns it.
        block_size: of the softmax blocks of LLN+Diag; 0 = LLN alone.
        scale: factor of the blocks' scores.
    """
    log_query = query * query_scale[..., None, None]
    log_key = key * key_scale[..., None, None]
    if mask.present is not None:
        log_key = torch.where(mask.present.unsqueeze(-1), log_key, -torch.inf)
    offset = mask.causal_offset
    if offset is None:
        output = bidirectional_lln(log_query, log_key, value)
    else:
        output = causal_lln(log_query, log_key, value, offset=offset)
    if block_size == 0 or output.numel() == 0 or mask.keys == 0:
        return output
    short_range, has_block = block_diagonal_attention(
        query, key, value, mask, scale=scale, block_size=block_size
    )
    mean = (output + short_range) / 2
    return mean if has_block is None else torch.where(has_block, mean, output)
