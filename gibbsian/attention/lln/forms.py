"""One call of LLN or LLN+Diag: the form that fits its mask, and its statistics if asked for."""

import contextlib

import torch
from torch import Tensor

from gibbsian._dispatch import is_watched
from gibbsian._errors import ArgumentError
from gibbsian.attention.base import AttentionStatistics
from gibbsian.attention.lln.inputs import LLNInputs
from gibbsian.attention.lln.plain import plain_lln
from gibbsian.attention.lln.scales import Scales
from gibbsian.attention.lln.statistics import BlockScores, lln_statistics
from gibbsian.numerics.masked import working_dtype

_LARGEST_COMPILED_BLOCK = 1024
"""Larger blocks are no short range: their scratch would no longer fit a cache."""


def check_block_size(block_size: int) -> None:
    """Raise `ArgumentError` unless blocks of this size can be."""
    if block_size < 1:
        raise ArgumentError(f"`block_size` must be >= 1, got {block_size}. 64 is the usual size.")


def block_obstacles(block_size: int) -> tuple[str, ...]:
    """Why the CPU kernels cannot run blocks of this size, if they cannot."""
    if block_size <= _LARGEST_COMPILED_BLOCK:
        return ()
    return (f"block_size is {block_size} (the kernels take up to {_LARGEST_COMPILED_BLOCK})",)


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
    device = inputs.query.device.type
    # a context that changes nothing costs as much as a pass over short queries
    autocast = torch.is_autocast_enabled(device)
    with torch.autocast(device, enabled=False) if autocast else contextlib.nullcontext():
        value = inputs.value.to(working_dtype(inputs.value))
        if inputs.dropout_p > 0:
            # A key leaves, or stays scaled up, for all queries of its head: linear in the keys,
            # and unbiased, since the denominators are not touched.
            kept = torch.dropout(torch.ones_like(value[..., :1]), inputs.dropout_p, True)
            value = value * kept
        form = _compiled if inputs.compiled else _plain
        output = form(inputs, scales, value, block_size).to(inputs.query.dtype)
        if not return_statistics:
            return output
        diagonal = None
        if block_size is not None:
            diagonal = BlockScores(
                query=inputs.query.to(value.dtype),
                key=inputs.key.to(value.dtype),
                scale=inputs.scale,
                block_size=block_size,
            )
        return output, lln_statistics(*inputs.log_features(*scales), inputs.mask, diagonal)


def _plain(inputs: LLNInputs, scales: Scales, value: Tensor, block_size: int | None) -> Tensor:
    query_scale, key_scale = (scale.to(value.dtype) for scale in scales)
    return plain_lln(
        inputs.query.to(value.dtype),
        inputs.key.to(value.dtype),
        value,
        query_scale * inputs.query_factor,
        key_scale,
        mask=inputs.mask,
        block_size=block_size or 0,
        scale=inputs.scale,
    )


def _compiled(inputs: LLNInputs, scales: Scales, value: Tensor, block_size: int | None) -> Tensor:
    # numba takes half a second to import: only where it is used
    from gibbsian.attention.lln.cpu.bidirectional_op import (  # noqa: PLC0415
        attend_to_all,
        lln_bidirectional,
    )
    from gibbsian.attention.lln.cpu.causal_op import (  # noqa: PLC0415
        attend_to_earlier,
        lln_causal,
    )

    query, key = inputs.query.float(), inputs.key.float()
    shape = query.shape[:2]
    query_scale, key_scale = (scale.float().expand(shape) for scale in scales)
    if inputs.query_factor != 1:
        query_scale = query_scale * inputs.query_factor
    floats = (query, key, value, query_scale, key_scale)
    present = inputs.mask.present
    if present is not None:
        present = present.expand(*shape, -1)
    offset = inputs.mask.causal_offset
    blocks = (min(block_size or 0, key.shape[-2]), inputs.scale)
    watched = is_watched(*floats)
    output: Tensor
    if offset is None:
        attend_all = lln_bidirectional if watched else attend_to_all
        output, _, _ = attend_all(*floats, present, *blocks)
    else:
        attend_earlier = lln_causal if watched else attend_to_earlier
        output = attend_earlier(*floats, present, offset, *blocks)
    return output
