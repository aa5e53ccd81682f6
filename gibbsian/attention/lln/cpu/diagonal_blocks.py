"""The softmax half of LLN+Diag: what its kernels need to know, and when they run."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.lln.cpu import arrays
from gibbsian.attention.lln.cpu.diagonal import (
    average_some,
    differentiate_some,
    list_present,
    scratch_size,
)
from gibbsian.attention.lln.masks import LinearMask
from gibbsian.numerics.cpu.threads import num_workers, run

_HALF, _ONE = np.float32(0.5), np.float32(1)
_ROWS_A_TASK = 1024
_ROWS_A_PART = 256
"""Rows that LLN has just handled are still near when their blocks follow."""


class DiagonalBlocks:
    """The blocks of one call; none if `block_size` is 0.

    Args:
        query: (batch, heads, queries, head_dim) float32.
        key: as many heads.
        value: the same.
        present: (batch, heads, keys) boolean; None = all.
        causal_offset: position of the first query if no query sees the keys after it, else None.
        block_size: present keys in a block.
        scale: of the scores.
    """

    rows_a_part: int
    """A whole number of blocks."""
    rows_a_task: int
    """A whole number of parts."""
    joined: bool
    """LLN's kernels handle the blocks themselves: every row is at its place, and in a block."""
    arguments: tuple[Any, ...]
    """`sizes, tensors, blocks` of the kernels in `gibbsian.attention.lln.cpu.diagonal`; without
    blocks to handle on the way, the block size in them is 0."""
    share_rows: arrays.Rows
    """What LLN's half is of each row, (batch, heads, queries): 1/2, or 1 without a block."""

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        present: Tensor | None,
        causal_offset: int | None,
        block_size: int,
        scale: float,
    ) -> None:
        batch, heads, queries, head_dim = query.shape
        keys, value_dim = value.shape[-2:]
        count = batch * heads
        mask = LinearMask(queries=queries, keys=keys, present=present, causal_offset=causal_offset)
        is_causal = causal_offset is not None
        self.rows_a_part = max(1, _ROWS_A_PART // max(1, block_size)) * max(1, block_size)
        self.rows_a_task = max(1, _ROWS_A_TASK // self.rows_a_part) * self.rows_a_part
        self.joined = block_size > 0 and present is None and queries == keys and mask.offset == 0
        places, counts = (
            arrays.empty(count, 0, dtype=torch.int32),
            arrays.empty(count, dtype=torch.int64),
        )
        if block_size > 0 and present is not None:
            places = arrays.empty(count, keys, dtype=torch.int32)
            run(list_present, count, heads, keys, *arrays.marks(present), places, counts)
        shares = np.where(_in_block(mask), _HALF, _ONE) if block_size > 0 else _ONE
        shares = np.ascontiguousarray(np.broadcast_to(shares, (batch, heads, queries)))
        self.share_rows = shares.reshape(-1), np.array([heads * queries, queries, 1], np.int64)

        # One task more than there may be in any kernel: all workers have scratch.
        workers = num_workers(count * (1 + max(queries, keys) // self.rows_a_part))
        size = scratch_size(head_dim, value_dim, block_size) if block_size > 0 else 0
        sizes = (heads, head_dim, value_dim, queries, keys)
        tensors = (*arrays.rows(query), *arrays.rows(key), *arrays.rows(value))
        rules = (
            mask.offset,
            int(present is not None and not is_causal and queries != keys),
            int(is_causal),
            np.float32(scale),
            places,
            counts,
            arrays.empty(workers, size),
            arrays.empty(workers, 3, block_size, dtype=torch.int64),
        )
        self.arguments = (sizes, tensors, (block_size if self.joined else 0, *rules))
        self._apart = (sizes, tensors, (block_size, *rules))
        self._blocks_a_task = self.rows_a_task // max(1, block_size)
        self._segments = -(-keys // self.rows_a_task)
        self._tasks = 0 if self.joined or block_size == 0 else count * self._segments

    def average(self, output: Any) -> None:
        """Makes LLN's output that of LLN+Diag, unless its kernels have done so."""
        split = (self._segments, self._blocks_a_task)
        run(average_some, self._tasks, *split, *self._apart, output)

    def add_gradients(self, upstream: Tensor, gradients: tuple[Any, ...]) -> None:
        """Adds to LLN's gradients those through the blocks, unless its kernels have done so."""
        split = (self._segments, self._blocks_a_task)
        rows = arrays.rows(upstream)
        run(differentiate_some, self._tasks, *split, *self._apart, *rows, gradients)


def _in_block(mask: LinearMask) -> Any:
    """Where `mask.query_ranks` is not -1, (batch, heads, queries); batch and heads may be 1."""
    query = np.arange(mask.queries)
    present = None if mask.present is None else mask.present.numpy()
    if present is not None and mask.causal_offset is None and mask.queries != mask.keys:
        return present.sum(axis=-1, keepdims=True) - mask.queries + query >= 0
    position = query + mask.offset
    inside = (position >= 0) & (position < mask.keys)
    if present is None:
        return inside[np.newaxis, np.newaxis]
    return inside & present[..., position.clip(0, mask.keys - 1)]
