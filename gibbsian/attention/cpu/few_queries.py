r"""A few queries against many keys: one pass over the keys, values read on the support only.

Packing the keys for matrix products would read and write all of them before the first product;
for one query that alone takes several times as long as what is done here.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gibbsian._dispatch import is_traced
from gibbsian.attention.cpu import strided
from gibbsian.attention.cpu.few_queries_kernels import (
    STRETCH_MOMENTS,
    merge_moments,
    mix_rows,
    score_stretches,
)
from gibbsian.attention.cpu.rows import StreamedRows
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.attention.rows import Rows
from gibbsian.numerics.cpu.simd import KEY_BLOCK
from gibbsian.numerics.cpu.threads import num_workers, run
from gibbsian.statistics import GibbsStatistics
from gibbsian.statistics.cpu.row import MOMENTS, statistics_of

MOST_ROWS = 16
"""More rows of a key head than this go through matrix products faster."""
_TASKS = 32
"""Stretches of keys are cut so that there are about so many tasks, to share them out evenly."""
_SHORTEST = 2048
"""Keys of a stretch: a task should take longer than its start."""


def suits_few_queries(inputs: AttentionInputs) -> bool:
    """Whether `FewQueries` is the faster form for these inputs, which need no gradient."""
    tensors = (inputs.query, inputs.key, inputs.value)
    if is_traced(*tensors, inputs.mask):
        return False
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    return inputs.group * inputs.query.shape[2] <= MOST_ROWS


class FewQueries(Rows):
    """The rows of one call, and the scratch space between the passes; without gradients.

    A key head of a sample owns the rows of all queries that it serves. Keys and values are read
    where they lie: neither is packed or copied, unless their type or strides ask for it.
    """

    def __init__(self, inputs: AttentionInputs) -> None:
        batch, heads, count, dim = inputs.query.shape
        key_heads, keys = inputs.key.shape[1:3]
        self.group = heads // key_heads
        self.keys = keys
        self.shape = (batch, heads, count)
        self._inputs = inputs
        self._scored = False
        number = np.arange(batch * key_heads)
        self.owners = np.stack([number // key_heads, number % key_heads, number], axis=1)
        queries = (inputs.query.detach().float() * inputs.scale).contiguous()
        self.queries = queries.view(len(number), self.group * count, dim).numpy()
        padded = -(-keys // KEY_BLOCK) * KEY_BLOCK
        self.scores = np.empty((len(number), self.group * count, padded), np.float32)
        wanted = -(-_TASKS // len(number))
        self.stretch = max(_SHORTEST, -(-padded // wanted // KEY_BLOCK) * KEY_BLOCK)
        self.stretches = -(-padded // self.stretch)
        self.moments = np.empty((*self.scores.shape[:2], self.stretches, STRETCH_MOMENTS))
        self.key = strided.rows(inputs.key.detach().float())
        self.mask = flat_mask(inputs)
        self.value = strided.rows(inputs.value.detach().float())
        self.value_dim = inputs.value.shape[3]

    def score(self, which: np.ndarray) -> None:
        """Scores and moments of the rows of these owners."""
        self._scored = True
        run(
            score_stretches,
            len(which) * self.stretches,
            self.stretches,
            self.stretch,
            self.owners[which],
            self.queries,
            *self.key,
            *self.mask,
            self.group,
            self.keys,
            self.scores,
            self.moments,
        )

    def statistics(self, *, detach: bool = True) -> GibbsStatistics:
        """See `gibbsian.attention.rows.Rows`; always detached."""
        del detach
        self.score(np.arange(len(self.owners)))
        return self.merged()

    def mix(self, zeta: Tensor) -> tuple[Tensor, Tensor]:
        """See `gibbsian.attention.rows.Rows`."""
        if torch.is_grad_enabled() and zeta.requires_grad:
            # a learned schedule, trained on inputs that need no gradient themselves
            return StreamedRows(self._inputs).mix(zeta)
        if not self._scored:
            self.score(np.arange(len(self.owners)))
        largest = self.moments[..., 0].max(axis=2, initial=-np.inf)
        largest = torch.from_numpy(largest).float()
        output, support = self.mix_rows(zeta, largest)
        output = output.view(*self.shape, self.value_dim).to(self._inputs.query.dtype)
        return output, support.view(self.shape)

    def merged(self) -> GibbsStatistics:
        """Statistics of all rows, from their moments."""
        total = math.prod(self.shape)
        found = np.empty((len(MOMENTS), total), np.float32)
        merge_moments(self.moments.reshape(total, self.stretches, STRETCH_MOMENTS), found)
        return statistics_of(torch.from_numpy(found).view(-1, *self.shape).movedim(0, -1))

    def mix_rows(
        self, zeta: Tensor, largest: Tensor, which: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mixed values (rows, value_dim) and support sizes (rows,) at these sparsities.

        Args:
            zeta: of all rows.
            largest: largest score of all rows.
            which: the rows to mix, counted over all; None = all.
        """
        total, padded = math.prod(self.shape), self.scores.shape[2]
        which = np.arange(total) if which is None else which
        workers = num_workers(len(which))
        output = np.empty((len(which), self.value_dim), np.float32)
        support = np.empty(len(which), np.float32)
        run(
            mix_rows,
            len(which),
            which,
            self.owners,
            zeta.detach().float().contiguous().view(total).numpy(),
            largest.contiguous().view(total).numpy(),
            *self.value,
            self.keys,
            self.scores.reshape(total, padded),
            np.empty((workers, padded), np.float32),
            np.empty((workers, padded), np.float32),
            np.empty((workers, padded), np.int32),
            output,
            support,
        )
        return torch.from_numpy(output), torch.from_numpy(support)


def flat_mask(inputs: AttentionInputs) -> strided.Strided:
    """Mask and causality together, as `strided.booleans` of all four dimensions.

    A mask repeated by `expand` is read where it lies; causality is added to what is repeated.
    """
    mask = inputs.mask
    if mask is not None:
        for dim in range(4):
            mask = mask if mask.stride(dim) else mask.narrow(dim, 0, 1)
    mask = replace(inputs, mask=mask).full_mask()
    if mask is not None:
        mask = mask.expand(*inputs.query.shape[:3], inputs.key.shape[2])
    return strided.booleans(mask, 4)
