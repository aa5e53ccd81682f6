r"""A few queries at a time: for what has to look at whole rows without holding all of them."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from gibbsian.attention.inputs import AttentionInputs

_BLOCK_NUMBERS = 1 << 22
"""Scores of a block, over batch and heads: 16 MiB in float32."""


def query_blocks(inputs: AttentionInputs) -> Iterator[tuple[slice, AttentionInputs]]:
    """Consecutive queries with their part of the mask, causality included.

    Args:
        inputs: checked inputs of one call.

    Yields:
        The queries' range, and inputs with these queries only whose `mask` says all that
        `is_causal` said: (..., rows, keys) where it did, so no larger than the block's scores.
    """
    queries, keys = inputs.query.shape[2], inputs.key.shape[2]
    row = inputs.query.shape[0] * inputs.query.shape[1] * keys
    size = max(1, min(queries, _BLOCK_NUMBERS // max(1, row)))
    device = inputs.query.device
    columns = torch.arange(keys, device=device)
    for start in range(0, queries, size):
        part = slice(start, min(start + size, queries))
        mask = inputs.mask
        if mask is not None and mask.shape[2] > 1:
            mask = mask[:, :, part]
        if inputs.is_causal:
            seen = columns <= torch.arange(start, part.stop, device=device).unsqueeze(-1)
            mask = seen[None, None] if mask is None else mask & seen
        yield part, replace(inputs, query=inputs.query[:, :, part], mask=mask, is_causal=False)
