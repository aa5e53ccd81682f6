r"""Entmax attention with a sparsity of its own for every query.

A tile of scores is computed, turned into weights row by row and mixed with the values: rows with
few weights gather them, rows with many go through a matrix product. The backward pass computes the
tile again; it needs one number a row from the forward pass, the largest log-probability.

Derivation: docs/derivations/aes.md#cpu.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.cpu.entmax_backward import differentiate_tiles
from gibbsian.attention.cpu.entmax_forward import mix_tile
from gibbsian.attention.cpu.layout import (
    like,
    problem_of,
    row_numbers,
    score_source,
    scratch,
    summed,
    transposed_panels,
    unit_rows,
)
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.attention.rows import MaterializedRows
from gibbsian.numerics.cpu.threads import num_workers, run


@torch.library.custom_op("gibbsian::entmax_attention", mutates_args=())
def entmax_attention_op(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    zeta: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixed values, and of each row the largest log-probability and the size of the support.

    Args:
        query: (batch, heads, queries, head_dim).
        key: (batch, key_heads, keys, head_dim); key_heads divides heads.
        value: (batch, key_heads, keys, value_dim).
        zeta: (batch, heads, queries).
        mask: boolean, 4 dimensions, broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i.
        scale: factor of the scores.

    Notes:
        Differentiable through the first result in query, key, value and zeta; a second derivative
        is taken by the reference.
    """
    problem = problem_of(query, key, value, is_causal, scale)
    tasks = problem.units * problem.tiles
    workers = num_workers(tasks)
    rows, padded = problem.tile_rows, problem.padded_keys
    keys = unit_rows(key, problem.keys, problem.head_dim)
    output = np.empty((problem.units, problem.rows, problem.value_dim), np.float32)
    log_maxima = np.empty((problem.units, problem.rows), np.float32)
    supports = np.empty((problem.units, problem.rows), np.float32)
    run(
        mix_tile,
        tasks,
        problem.tiles,
        score_source(problem, query, keys, mask),
        unit_rows(value, problem.keys, problem.value_dim),
        row_numbers(zeta, problem),
        output,
        log_maxima,
        supports,
        scratch(workers, rows, problem.head_dim),
        scratch(workers, rows, padded),
        scratch(workers, 2, padded),
        np.empty((workers, padded), np.int32),
    )
    shape = query.shape[:3]
    mixed = torch.from_numpy(output).view(*shape, -1)[..., : value.shape[-1]]
    return (
        mixed.to(query.dtype).contiguous(),
        torch.from_numpy(log_maxima).view(shape),
        torch.from_numpy(supports).view(shape),
    )


@entmax_attention_op.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    zeta: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    del key, zeta, mask, is_causal, scale
    numbers = query.new_empty(query.shape[:3], dtype=torch.float32)
    return (
        query.new_empty((*query.shape[:3], value.shape[-1])),
        numbers,
        torch.empty_like(numbers),
    )


@torch.library.custom_op("gibbsian::entmax_attention_backward", mutates_args=())
def _entmax_attention_backward(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    zeta: Tensor,
    mask: Tensor | None,
    log_maxima: Tensor,
    supports: Tensor,
    is_causal: bool,
    scale: float,
    needs_zeta: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problem = problem_of(query, key, value, is_causal, scale)
    splits = problem.splits
    tasks = problem.units * splits
    workers = num_workers(tasks)
    rows, padded = problem.tile_rows, problem.padded_keys
    keys = unit_rows(key, problem.keys, problem.head_dim)
    values = unit_rows(value, problem.keys, problem.value_dim)
    grad_query = np.empty((problem.units, problem.rows, problem.head_dim), np.float32)
    grad_key = np.empty((splits, problem.units, padded, problem.head_dim), np.float32)
    grad_value = np.empty((splits, problem.units, padded, problem.value_dim), np.float32)
    grad_zeta = np.empty((problem.units, problem.rows), np.float32)
    run(
        differentiate_tiles,
        tasks,
        problem.tiles,
        splits,
        score_source(problem, query, keys, mask),
        needs_zeta,
        keys,
        values,
        transposed_panels(values, padded),
        row_numbers(zeta, problem),
        row_numbers(log_maxima, problem),
        row_numbers(supports, problem),
        unit_rows(upstream, problem.rows, problem.value_dim),
        grad_query,
        grad_key,
        grad_value,
        grad_zeta,
        scratch(workers, rows, problem.head_dim),
        scratch(workers, rows, problem.value_dim),
        scratch(workers, rows, padded),
        scratch(workers, rows, padded),
        scratch(workers, rows, problem.head_dim),
        scratch(workers, 3, padded),
        np.empty((workers, padded), np.int32),
    )
    return (
        like(grad_query, query),
        like(summed(grad_key), key),
        like(summed(grad_value), value),
        torch.from_numpy(grad_zeta).view(zeta.shape).to(zeta.dtype),
    )


@_entmax_attention_backward.register_fake
def _(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    zeta: Tensor,
    mask: Tensor | None,
    log_maxima: Tensor,
    supports: Tensor,
    is_causal: bool,
    scale: float,
    needs_zeta: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    del upstream, mask, log_maxima, supports, is_causal, scale, needs_zeta
    dense = (query.new_empty(t.shape, dtype=t.dtype) for t in (query, key, value, zeta))
    grad_query, grad_key, grad_value, grad_zeta = dense
    return grad_query, grad_key, grad_value, grad_zeta


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, is_causal, scale = inputs
    _, log_maxima, supports = output
    ctx.mark_non_differentiable(log_maxima, supports)
    ctx.save_for_backward(*tensors, log_maxima, supports)
    ctx.is_causal, ctx.scale = is_causal, scale


def _differentiate(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        # to be differentiated again: the same in plain operations
        *tensors, mask, _, _ = ctx.saved_tensors
        plain = torch.func.vjp(_plain(mask, ctx.is_causal, ctx.scale), *tensors)[1](upstream)
        return (*plain, None, None, None)
    gradients = _entmax_attention_backward(
        upstream, *ctx.saved_tensors, ctx.is_causal, ctx.scale, ctx.needs_input_grad[3]
    )
    return (*gradients, None, None, None)


def _plain(mask: Tensor | None, is_causal: bool, scale: float) -> Callable[..., Tensor]:
    def mix(query: Tensor, key: Tensor, value: Tensor, zeta: Tensor) -> Tensor:
        inputs = AttentionInputs(
            query=query,
            key=key,
            value=value,
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            dropout_p=0.0,
        )
        return MaterializedRows(inputs).mix(zeta)[0]

    return mix


entmax_attention_op.register_autograd(_differentiate, setup_context=_save)
