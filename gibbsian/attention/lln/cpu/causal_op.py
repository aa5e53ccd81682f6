"""Causal LLN as a torch operator, differentiable once."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.lln.cpu import memory as space
from gibbsian.attention.lln.cpu.causal import attend_causally, scratch_size
from gibbsian.attention.lln.cpu.causal_backward import differentiate_causally
from gibbsian.attention.lln.cpu.diagonal_blocks import DiagonalBlocks
from gibbsian.numerics.cpu.threads import num_workers, run


@torch.library.custom_op("gibbsian::lln_causal", mutates_args=())
def lln_causal(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_scale: Tensor,
    key_scale: Tensor,
    present: Tensor | None,
    offset: int,
    block_size: int,
    scale: float,
) -> Tensor:
    """Output of every query i over the present keys j <= i + offset.

    Arguments as those of `lln_bidirectional`.
    """
    batch, heads, queries, head_dim = query.shape
    keys, value_dim = value.shape[-2:]
    output = space.empty(batch, heads, queries, value_dim)
    flat = output.view(-1).numpy()
    blocks = DiagonalBlocks(query, key, value, present, offset, block_size, scale)
    run(
        attend_causally,
        batch * heads,
        heads,
        head_dim,
        value_dim,
        queries,
        keys,
        offset,
        *space.rows(query),
        *space.rows(key),
        *space.rows(value),
        *space.marks(present),
        space.vector(query_scale),
        space.vector(key_scale),
        flat,
        space.scratch(batch * heads, scratch_size(head_dim, value_dim, 0)),
        *blocks.arguments,
    )
    blocks.average(flat)
    return output


@lln_causal.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_scale: Tensor,
    key_scale: Tensor,
    present: Tensor | None,
    offset: int,
    block_size: int,
    scale: float,
) -> Tensor:
    del key, query_scale, key_scale, present, offset, block_size, scale
    return query.new_empty((*query.shape[:3], value.shape[-1]))


@torch.library.custom_op("gibbsian::lln_causal_backward", mutates_args=())
def _backward(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_scale: Tensor,
    key_scale: Tensor,
    present: Tensor | None,
    offset: int,
    block_size: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, heads, queries, head_dim = query.shape
    keys, value_dim = value.shape[-2:]
    grad_query, grad_key, grad_value, grad_query_scale, grad_key_scale = (
        space.empty(*x.shape) for x in (query, key, value, query_scale, key_scale)
    )
    blocks = DiagonalBlocks(query, key, value, present, offset, block_size, scale)
    flat = tuple(x.view(-1).numpy() for x in (grad_query, grad_key, grad_value))
    tasks = batch * heads
    # A chunk may be as short as one query; pages that are not written to cost nothing.
    chunks = num_workers(tasks), max(1, queries)
    run(
        differentiate_causally,
        tasks,
        heads,
        head_dim,
        value_dim,
        queries,
        keys,
        offset,
        *space.rows(query),
        *space.rows(key),
        *space.rows(value),
        *space.marks(present),
        *space.rows(upstream),
        *space.numbers(blocks.shares),
        space.vector(query_scale),
        space.vector(key_scale),
        flat,
        grad_query_scale.view(-1).numpy(),
        grad_key_scale.view(-1).numpy(),
        space.scratch(tasks, scratch_size(head_dim, value_dim, queries)),
        space.empty(*chunks, space.padded_size(head_dim)).numpy(),
        np.empty(chunks, np.int64),
        *blocks.arguments,
    )
    blocks.add_gradients(upstream, flat)
    return grad_query, grad_key, grad_value, grad_query_scale, grad_key_scale


@_backward.register_fake
def _(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_scale: Tensor,
    key_scale: Tensor,
    present: Tensor | None,
    offset: int,
    block_size: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    del upstream, present, offset, block_size, scale
    return (
        query.new_empty(query.shape),
        key.new_empty(key.shape),
        value.new_empty(value.shape),
        query_scale.new_empty(query_scale.shape),
        key_scale.new_empty(key_scale.shape),
    )


def _save(ctx: Any, inputs: Any, output: Tensor) -> None:
    del output
    *tensors, ctx.offset, ctx.block_size, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    numbers = ctx.offset, ctx.block_size, ctx.scale
    return *_backward(upstream, *ctx.saved_tensors, *numbers), None, None, None, None


lln_causal.register_autograd(_differentiate, setup_context=_save)
