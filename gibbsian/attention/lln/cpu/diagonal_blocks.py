"""The softmax half of LLN+Diag, added to tensors that hold LLN's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.lln.cpu import memory as space
from gibbsian.attention.lln.cpu.diagonal import (
    average_blocks,
    blocks_a_task,
    differentiate_blocks,
    list_present,
    scratch_size,
)
from gibbsian.attention.lln.masks import LinearMask
from gibbsian.numerics.cpu.threads import num_workers, run


class DiagonalBlocks:
    """The blocks of one call.

    Args:
        query: (batch, heads, queries, head_dim) float32.
        key: as many heads.
        value: the same.
        present: (batch, heads, keys) boolean; None = all.
        causal_offset: position of the first query if no query sees the keys after it, else None.
        block_size: present keys in a block.
        scale: of the scores.
    """

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
        self._shape = batch, heads, queries
        self._mask = LinearMask(
            queries=queries, keys=keys, present=present, causal_offset=causal_offset
        )
        is_causal = causal_offset is not None
        count = batch * heads
        places, counts = np.empty((count, 0), np.int32), np.empty(count, np.int64)
        if present is not None:
            places = np.empty((count, keys), np.int32)
            run(list_present, count, heads, keys, *space.marks(present), places, counts)
        blocks = blocks_a_task(block_size)
        segments = -(-keys // (block_size * blocks))
        self._tasks = count * segments
        self._arguments = (
            segments,
            blocks,
            block_size,
            heads,
            head_dim,
            value_dim,
            queries,
            keys,
            self._mask.offset,
            int(present is not None and not is_causal and queries != keys),
            int(is_causal),
            np.float32(scale),
            *space.rows(query),
            *space.rows(key),
            *space.rows(value),
            places,
            counts,
        )
        workers = num_workers(self._tasks)
        size = scratch_size(head_dim, value_dim, block_size)
        self._scratch = (
            space.scratch(self._tasks, size),
            np.empty((workers, 3, block_size), np.int64),
        )

    def average(self, output: Tensor) -> None:
        """Makes LLN's contiguous output that of LLN+Diag."""
        flat = output.view(-1).numpy()
        run(average_blocks, self._tasks, *self._arguments, flat, *self._scratch)

    def add_gradients(self, upstream: Tensor, gradients: tuple[Tensor, Tensor, Tensor]) -> None:
        """Adds to the contiguous gradients in query, key and value those through the blocks."""
        flat: list[Any] = [gradient.view(-1).numpy() for gradient in gradients]
        rows = space.rows(upstream)
        run(differentiate_blocks, self._tasks, *self._arguments, *rows, *flat, *self._scratch)

    @property
    def shares(self) -> Tensor:
        """What LLN's half is of each row, (batch, heads, queries): 1/2, or 1 without a block."""
        ranks = self._mask.query_ranks(device=torch.device("cpu"))
        return torch.where(ranks >= 0, 0.5, 1.0).expand(self._shape)
