"""One call of LLN or LLN+Diag: the form that fits its mask, and its statistics if asked for."""

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.attention.base import AttentionStatistics
from gibbsian.attention.lln.bidirectional import bidirectional_lln
from gibbsian.attention.lln.causal import causal_lln
from gibbsian.attention.lln.diag import block_diagonal_attention
from gibbsian.attention.lln.inputs import LLNInputs
from gibbsian.attention.lln.scales import Scales
from gibbsian.attention.lln.statistics import DiagonalBlocks, lln_statistics


def check_block_size(block_size: int) -> None:
    """Raise `ArgumentError` unless blocks of this size can be."""
    if block_size < 1:
        raise ArgumentError(f"`block_size` must be >= 1, got {block_size}. 64 is the usual size.")


def attend(
    inputs: LLNInputs,
    scales: Scales,
    *,
    block_size: int | None = None,
    return_statistics: bool = False,
) -> Tensor | tuple[Tensor, AttentionStatistics]:
    """Output in the dtype of the query, and the rows' statistics (before dropout) if asked for.

    Args:
        inputs: checked.
        scales: broadcastable to (batch, heads).
        block_size: of the softmax blocks of LLN+Diag; None = LLN alone.
        return_statistics: also return `AttentionStatistics`.
    """
    with torch.autocast(inputs.query.device.type, enabled=False):
        log_query, log_key = inputs.log_features(*scales)
        value = inputs.value.to(log_key.dtype)
        if inputs.dropout_p > 0:
            # A key leaves, or stays scaled up, for all queries of its head: linear in the keys,
            # and unbiased, since the denominators are not touched.
            kept = torch.dropout(torch.ones_like(value[..., :1]), inputs.dropout_p, True)
            value = value * kept
        output = _long_range(inputs, log_query, log_key, value)
        if block_size is not None and output.numel() > 0 and inputs.mask.keys > 0:
            short_range, has_block = block_diagonal_attention(
                inputs.query.to(log_key.dtype),
                inputs.key.to(log_key.dtype),
                value,
                inputs.mask,
                scale=inputs.scale,
                block_size=block_size,
            )
            mean = (output + short_range) / 2
            output = mean if has_block is None else torch.where(has_block, mean, output)
        output = output.to(inputs.query.dtype)
        if not return_statistics:
            return output
        diagonal = None
        if block_size is not None:
            diagonal = DiagonalBlocks(
                query=inputs.query.to(log_key.dtype),
                key=inputs.key.to(log_key.dtype),
                scale=inputs.scale,
                block_size=block_size,
            )
        return output, lln_statistics(log_query, log_key, inputs.mask, diagonal)


def _long_range(inputs: LLNInputs, log_query: Tensor, log_key: Tensor, value: Tensor) -> Tensor:
    log_key = inputs.without_absent(log_key)
    offset = inputs.mask.causal_offset
    if offset is None:
        return bidirectional_lln(log_query, log_key, value)
    return causal_lln(log_query, log_key, value, offset=offset)
