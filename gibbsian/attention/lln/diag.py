"""Softmax attention within diagonal blocks, the short-range half of LLN+Diag."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from gibbsian.attention.inputs import with_positive_scale
from gibbsian.attention.lln.masks import LinearMask
from gibbsian.attention.lln.padding import pad_steps


def block_diagonal_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch heads keys head_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    mask: LinearMask,
    *,
    scale: float,
    block_size: int,
) -> tuple[
    Float[Tensor, "batch heads queries value_dim"],
    Bool[Tensor, "#batch #heads queries 1"] | None,
]:
    """Softmax attention of each query over the visible keys of its own block.

    Blocks are consecutive runs of `block_size` present keys (absent ones are not counted, so
    padding moves no block), the last one ragged. A query belongs to the block of the key at which
    it stands (`LinearMask.query_ranks`); with causality it sees that block's keys up to itself.

    Args:
        query: scores are scale * query . key.
        key: absent keys must be finite.
        value: the same.
        mask: as `linear_mask` returns it.
        scale: factor of the scores.
        block_size: keys in a block, >= 1.

    Returns:
        The output, and which queries have a block at all (None = all); the others' output means
        nothing.

    Notes:
        O(keys block_size head_dim) time, less when few queries stand at the end of many keys.

    References: Nahshan, Kampeas & Haleva, section 4.2 and figure 3.
    """
    is_causal = mask.causal_offset is not None
    if mask.present is not None:
        # Blocks are known only after sorting.
        order = (~mask.present).byte().argsort(dim=-1, stable=True)
        rank = mask.query_ranks(device=query.device)
        output = _within_blocks(
            _at_ranks(query, rank, mask.keys),
            key.take_along_dim(order.unsqueeze(-1), dim=-2),
            value.take_along_dim(order.unsqueeze(-1), dim=-2),
            mask.present.take_along_dim(order, dim=-1),
            is_causal=is_causal,
            scale=scale,
            block_size=block_size,
        )
        rank = rank.unsqueeze(-1)
        return output.take_along_dim(rank.clamp_min(0), dim=-2), rank >= 0

    # The blocks in which queries stand.
    queries, offset = mask.queries, mask.offset
    start = min(max(offset, 0) // block_size * block_size, mask.keys)
    stop = max(min(-(-(offset + queries) // block_size) * block_size, mask.keys), start)
    # Queries move to their positions among the keys; a negative pad cuts those without one.
    before, after = offset - start, stop - offset - queries
    output = _within_blocks(
        pad_steps(query, before, after),
        key[:, :, start:stop],
        value[:, :, start:stop],
        None,
        is_causal=is_causal,
        scale=scale,
        block_size=block_size,
    )
    has_block = None
    if before < 0 or after < 0:
        has_block = torch.ones(1, 1, stop - start, 1, dtype=torch.bool, device=query.device)
        has_block = pad_steps(has_block, -before, -after)
    return pad_steps(output, -before, -after), has_block


def _at_ranks(query: Tensor, rank: Tensor, keys: int) -> Tensor:
    """As many rows as keys: each query in the row of its rank, 0 in rows without one."""
    queries = query.shape[-2]
    # One row more takes the queries without a rank; one query more, of zeros, fills the rows left.
    source = rank.new_full((*rank.shape[:2], keys + 1), queries)
    index = torch.where(rank >= 0, rank, keys)
    source.scatter_(-1, index, torch.arange(queries, device=rank.device).expand_as(index))
    return pad_steps(query, 0, 1).take_along_dim(source[..., :keys].unsqueeze(-1), dim=-2)


def _within_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    *,
    is_causal: bool,
    scale: float,
    block_size: int,
) -> Tensor:
    """As many queries as keys; `visible` keys come first, in order."""
    batch, heads, length = query.shape[:3]
    ragged = -length % block_size
    count = (length + ragged) // block_size

    def blocks(rows: Tensor) -> Tensor:
        padded = pad_steps(rows, 0, ragged)
        return padded.reshape(batch * heads, count, block_size, rows.shape[-1])

    allowed = None
    # Later keys are hidden from present queries by causality already.
    if not is_causal and (visible is not None or ragged):
        if visible is None:
            visible = torch.ones(1, 1, length, dtype=torch.bool, device=query.device)
        allowed = pad(visible, (0, ragged)).reshape(*visible.shape[:2], count, 1, block_size)
        # A block without keys sees all, so that softmax stays finite; nobody reads its output.
        allowed = allowed | ~allowed.any(dim=-1, keepdim=True)
        allowed = allowed.expand(batch, heads, -1, block_size, -1).flatten(0, 1)
    query, scale = with_positive_scale(query, scale)
    tensors = blocks(query), blocks(key), blocks(value)
    differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    if differentiable and query.device.type == "cpu":
        # torch's fused kernel has no second derivative
        if is_causal:
            allowed = torch.ones(block_size, block_size, dtype=torch.bool, device="cpu").tril()
        output = _attend(*tensors, allowed, scale)
    else:
        output = scaled_dot_product_attention(
            *tensors, attn_mask=allowed, is_causal=is_causal, scale=scale
        )
    return output.reshape(batch, heads, count * block_size, -1)[:, :, :length]


def _attend(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, scale: float
) -> Tensor:
    scores = scale * query @ key.mT
    if allowed is not None:
        scores = torch.where(allowed, scores, -torch.inf)
    return scores.softmax(dim=-1) @ value
