r"""Statistics of every query's softmax row, a tile of scores at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.cpu.layout import (
    ScoreSource,
    like,
    problem_of,
    score_source,
    scratch,
    summed,
    tile_scores,
    unit_rows,
)
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.attention.rows import MaterializedRows
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import PANEL, TILE_ROWS
from gibbsian.numerics.cpu.threads import num_workers, run
from gibbsian.statistics.cpu.row import (
    MOMENTS,
    NUM_MOMENTS,
    row_maximum,
    row_moments,
    row_moments_gradient,
)

_ZERO = np.float32(0)


@kernel
def _forward(
    task: int,
    worker: int,
    tiles: int,
    source: ScoreSource,
    moments: Any,
    scaled: Any,
    scores: Any,
) -> None:
    unit, tile = task // tiles, task % tiles
    tile_rows = scores.shape[1]
    first = tile * tile_rows
    count = min(tile_rows, source.query.shape[1] - first)
    extent = tile_scores(source, unit, first, count, scaled[worker], scores[worker])
    for i in range(count):
        row = scores[worker, i]
        row_moments(row, extent, row_maximum(row, extent), moments[unit, first + i])


@kernel
def _backward(
    task: int,
    worker: int,
    tiles: int,
    splits: int,
    source: ScoreSource,
    key: Any,
    moments: Any,
    upstream: Any,
    grad_query: Any,
    grad_key: Any,
    scaled: Any,
    scores: Any,
    gradients: Any,
    grad_rows: Any,
) -> None:
    unit, split = task // splits, task % splits
    tile_rows, padded = scores.shape[1], scores.shape[2]
    head_dim = source.query.shape[2]
    to_key, to_query = grad_key[split, unit], grad_rows[worker]
    to_key[:] = _ZERO
    for tile in range(split, tiles, splits):
        first = tile * tile_rows
        count = min(tile_rows, source.query.shape[1] - first)
        padded_count = -(-count // TILE_ROWS) * TILE_ROWS
        extent = tile_scores(source, unit, first, count, scaled[worker], scores[worker])
        for i in range(padded_count):
            gradient = gradients[worker, i]
            if i < count and moments[unit, first + i, NUM_MOMENTS - 1] > _ZERO:
                row_moments_gradient(
                    scores[worker, i],
                    extent,
                    moments[unit, first + i],
                    upstream[unit, first + i],
                    gradient,
                )
            else:
                gradient[:extent] = _ZERO
        multiply(
            gradients[worker].ctypes.data,
            padded,
            1,
            key[unit].ctypes.data,
            PANEL,
            head_dim,
            to_query.ctypes.data,
            head_dim,
            padded_count,
            min(extent, source.keys),
            head_dim,
            0,
        )
        multiply(
            gradients[worker].ctypes.data,
            1,
            padded,
            scaled[worker].ctypes.data,
            PANEL,
            head_dim,
            to_key.ctypes.data,
            head_dim,
            extent,
            padded_count,
            head_dim,
            1,
        )
        for i in range(count):
            for k in range(head_dim):
                grad_query[unit, first + i, k] = to_query[i, k] * source.scale


@torch.library.custom_op("gibbsian::attention_row_statistics", mutates_args=())
def attention_row_statistics_op(
    query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float
) -> Tensor:
    """Statistics of the rows, (batch, heads, queries, `NUM_MOMENTS`), float32.

    Args:
        query: (batch, heads, queries, head_dim).
        key: (batch, key_heads, keys, head_dim); key_heads divides heads.
        mask: boolean, 4 dimensions, broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i.
        scale: factor of the scores.

    Notes:
        Differentiable in query and key; a second derivative is taken by the reference.
    """
    problem = problem_of(query, key, key, is_causal, scale)
    tasks = problem.units * problem.tiles
    workers = num_workers(tasks)
    keys = unit_rows(key, problem.keys, problem.head_dim)
    moments = np.empty((problem.units, problem.rows, NUM_MOMENTS), np.float32)
    run(
        _forward,
        tasks,
        problem.tiles,
        score_source(problem, query, keys, mask),
        moments,
        scratch(workers, problem.tile_rows, problem.head_dim),
        scratch(workers, problem.tile_rows, problem.padded_keys),
    )
    return torch.from_numpy(moments).view(*query.shape[:3], NUM_MOMENTS)


@attention_row_statistics_op.register_fake
def _(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    del key, mask, is_causal, scale
    return query.new_empty((*query.shape[:3], NUM_MOMENTS), dtype=torch.float32)


@torch.library.custom_op("gibbsian::attention_row_statistics_backward", mutates_args=())
def _backward_op(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    moments: Tensor,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    problem = problem_of(query, key, key, is_causal, scale)
    splits = problem.splits
    tasks = problem.units * splits
    workers = num_workers(tasks)
    rows, padded, dim = problem.tile_rows, problem.padded_keys, problem.head_dim
    keys = unit_rows(key, problem.keys, dim)
    grad_query = np.empty((problem.units, problem.rows, dim), np.float32)
    grad_key = np.empty((splits, problem.units, padded, dim), np.float32)
    run(
        _backward,
        tasks,
        problem.tiles,
        splits,
        score_source(problem, query, keys, mask),
        keys,
        unit_rows(moments, problem.rows, NUM_MOMENTS),
        unit_rows(upstream, problem.rows, NUM_MOMENTS),
        grad_query,
        grad_key,
        scratch(workers, rows, dim),
        scratch(workers, rows, padded),
        scratch(workers, rows, padded),
        scratch(workers, rows, dim),
    )
    return like(grad_query, query), like(summed(grad_key), key)


@_backward_op.register_fake
def _(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    moments: Tensor,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    del upstream, mask, moments, is_causal, scale
    return query.new_empty(query.shape), key.new_empty(key.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query, key, mask, is_causal, scale = inputs
    ctx.save_for_backward(query, key, mask, output)
    ctx.is_causal, ctx.scale = is_causal, scale


def _differentiate(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        # to be differentiated again: the same in plain operations
        query, key, mask, _ = ctx.saved_tensors
        plain = torch.func.vjp(_plain(mask, ctx.is_causal, ctx.scale), query, key)[1](upstream)
        return (*plain, None, None, None)
    gradients = _backward_op(upstream, *ctx.saved_tensors, ctx.is_causal, ctx.scale)
    return (*gradients, None, None, None)


def _plain(mask: Tensor | None, is_causal: bool, scale: float) -> Callable[..., Tensor]:
    def moments(query: Tensor, key: Tensor) -> Tensor:
        inputs = AttentionInputs(
            query=query,
            key=key,
            value=key,
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            dropout_p=0.0,
        )
        statistics = MaterializedRows(inputs).statistics(detach=False)
        return torch.stack([getattr(statistics, name) for name in MOMENTS], dim=-1)

    return moments


attention_row_statistics_op.register_autograd(_differentiate, setup_context=_save)
