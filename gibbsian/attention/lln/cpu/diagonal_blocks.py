"""The softmax half of LLN+Diag: what its kernels need to know, and when they run."""

from typing import Any

import numpy as np
import torch

from gibbsian.attention.lln.cpu import arrays
from gibbsian.attention.lln.cpu.diagonal import average_some, scratch_size
from gibbsian.attention.lln.cpu.diagonal_backward import differentiate_some
from gibbsian.attention.lln.cpu.diagonal_rows import list_present
from gibbsian.attention.lln.masks import LinearMask
from gibbsian.numerics.cpu.threads import num_workers, run

_HALF, _ONE = np.float32(0.5), np.float32(1)
_ROWS_A_TASK = 1024
_NOWHERE = (np.empty(0, np.float32), np.zeros(3, np.int64))
_NO_BLOCKS = (
    (0,) * 5,
    _NOWHERE * 3,
    (
        *(0,) * 4,
        _ONE,
        np.empty((0, 0), np.int32),
        np.empty(0, np.int64),
        np.empty((0, 0), np.float32),
        np.empty((0, 3, 0), np.int64),
    ),
)
"""The arguments of kernels that have no blocks to handle."""


class DiagonalBlocks:
    """The blocks of one call; none if `block_size` is 0.

    Args:
        mask: which key each query stands at, and which keys are there, (batch, heads, keys).
        sizes: batch, heads, head_dim and value_dim.
        tensors: `arrays.rows` of float32 queries, keys and values, one after the other.
        block_size: present keys in a block.
        scale: of the scores.
        near: rows that are still in the cache when their blocks follow: LLN handles about so many,
            then the blocks.
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

    def __init__(
        self,
        mask: LinearMask,
        sizes: tuple[int, int, int, int],
        tensors: tuple[Any, ...],
        block_size: int,
        scale: float,
        near: int = 512,
    ) -> None:
        self.rows_a_part = max(1, near // max(1, block_size)) * max(1, block_size)
        self.rows_a_task = max(1, _ROWS_A_TASK // self.rows_a_part) * self.rows_a_part
        self.joined = False
        self.arguments = self._apart = _NO_BLOCKS
        self._mask, self._shape, self._block_size = mask, (*sizes[:2], mask.queries), block_size
        self._tasks = 0
        if block_size == 0:
            return
        batch, heads, head_dim, value_dim = sizes
        count, present, is_causal = batch * heads, mask.present, mask.causal_offset is not None
        self.joined = present is None and mask.queries == mask.keys and mask.offset == 0
        places = arrays.empty(count, 0 if present is None else mask.keys, dtype=torch.int32)
        counts = arrays.empty(count, dtype=torch.int64)
        if present is not None:
            run(list_present, count, heads, mask.keys, *arrays.marks(present), places, counts)
        # One task more than there may be in any kernel: all workers have scratch.
        workers = num_workers(count * (1 + max(mask.queries, mask.keys) // self.rows_a_part))
        rules = (
            mask.offset,
            int(present is not None and not is_causal and mask.queries != mask.keys),
            int(is_causal),
            np.float32(scale),
            places,
            counts,
            arrays.empty(workers, scratch_size(head_dim, value_dim, block_size)),
            arrays.empty(workers, 3, block_size, dtype=torch.int64),
        )
        shape = (heads, head_dim, value_dim, mask.queries, mask.keys)
        self._apart = (shape, tensors, (block_size, *rules))
        self.arguments = (shape, tensors, (block_size if self.joined else 0, *rules))
        self._blocks_a_task = self.rows_a_task // block_size
        self._segments = -(-mask.keys // self.rows_a_task)
        self._tasks = 0 if self.joined else count * self._segments

    def share_rows(self) -> arrays.Strided:
        """What LLN's half is of each row, (batch, heads, queries): 1/2, or 1 without a block."""
        if self.joined or self._block_size == 0:
            return np.array([_HALF if self.joined else _ONE]), np.zeros(3, np.int64)
        shares = np.where(_in_block(self._mask), _HALF, _ONE)
        shares = np.ascontiguousarray(np.broadcast_to(shares, self._shape))
        _, heads, queries = self._shape
        return shares.reshape(-1), np.array([heads * queries, queries, 1], np.int64)

    def average(self, output: Any) -> None:
        """Makes LLN's output that of LLN+Diag, unless its kernels have done so."""
        if self._tasks == 0:
            return
        split = (self._segments, self._blocks_a_task)
        run(average_some, self._tasks, *split, *self._apart, output)

    def add_gradients(self, upstream: arrays.Strided, gradients: tuple[Any, ...]) -> None:
        """Adds to LLN's gradients those through the blocks, unless its kernels have done so."""
        if self._tasks == 0:
            return
        split = (self._segments, self._blocks_a_task)
        run(differentiate_some, self._tasks, *split, *self._apart, *upstream, gradients)


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
