r"""A few queries at a time: for what has to look at whole rows without holding all of them."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from gibbsian._dispatch import Backend
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.attention.rows import rows_of, runs_compiled
from gibbsian.numerics.masked import working_dtype
from gibbsian.statistics import GibbsStatistics
from gibbsian.statistics.fused import fused_gibbs_statistics

_BLOCK_NUMBERS = 1 << 22
"""Scores of a block, over batch and heads: 16 MiB in float32."""


_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def without_autocast(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """A function of `query` (first) and more that computes the same inside `torch.autocast`."""

    @functools.wraps(function)
    def wrapped(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        query = args[0] if args else kwargs["query"]
        device = query.device.type if isinstance(query, Tensor) else "cpu"
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return wrapped


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


class BlockStatistics:
    """Statistics of all rows, filled in block by block.

    The space is taken before the first block is: small results among large temporaries would leave
    holes in the heap that no later block fits in.
    """

    def __init__(self, inputs: AttentionInputs) -> None:
        scores = inputs.query.new_empty(0, dtype=working_dtype(inputs.query))
        self._fields = scores.new_empty((len(fields(GibbsStatistics)), *inputs.query.shape[:3]))

    def add(self, part: slice, scores: Tensor) -> None:
        """The rows of a block, from their scores."""
        found = fused_gibbs_statistics(scores)
        for field, whole in zip(fields(GibbsStatistics), self._fields, strict=True):
            whole[..., part] = getattr(found, field.name)

    def all(self) -> GibbsStatistics:
        """Of all rows, each (batch, heads, queries)."""
        names = [field.name for field in fields(GibbsStatistics)]
        return GibbsStatistics(**dict(zip(names, self._fields.unbind(), strict=True)))


def streamed_statistics(inputs: AttentionInputs, backend: Backend = "auto") -> GibbsStatistics:
    """Statistics of the softmax rows, without a graph, in memory linear in the length.

    Raises:
        BackendUnavailableError: the backend asked for cannot run this call.
    """
    if runs_compiled(inputs, backend):
        return rows_of(inputs, backend).statistics(detach=True)
    statistics = BlockStatistics(inputs)
    for part, block in query_blocks(inputs):
        statistics.add(part, block.scores())
    return statistics.all()
