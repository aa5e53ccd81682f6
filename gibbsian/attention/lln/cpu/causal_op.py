"""Causal LLN as a torch operator."""

from typing import Any

import torch
from torch import Tensor

from gibbsian.attention.lln.cpu import arrays
from gibbsian.attention.lln.cpu.causal import attend_causally
from gibbsian.attention.lln.cpu.causal_backward import differentiate_causally
from gibbsian.attention.lln.cpu.causal_rows import scratch_size
from gibbsian.attention.lln.cpu.diagonal_blocks import DiagonalBlocks
from gibbsian.attention.lln.cpu.twice import differentiable_form
from gibbsian.attention.lln.masks import LinearMask
from gibbsian.numerics.cpu.threads import num_workers, run


def attend_to_earlier(
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

    Arguments as those of `attend_to_all`; a second derivative is taken by the reference.
    """
    batch, heads, queries, head_dim = query.shape
    keys, value_dim = value.shape[-2:]
    output = arrays.empty(batch, heads, queries, value_dim)
    flat = output.reshape(-1)
    tensors = (*arrays.rows(query), *arrays.rows(key), *arrays.rows(value))
    mask = LinearMask(queries=queries, keys=keys, present=present, causal_offset=offset)
    blocks = DiagonalBlocks(mask, (batch, heads, head_dim, value_dim), tensors, block_size, scale)
    run(
        attend_causally,
        batch * heads,
        offset,
        arrays.marks(present),
        (arrays.vector(query_scale), arrays.vector(key_scale)),
        arrays.scratch(batch * heads, scratch_size(head_dim, value_dim)),
        (heads, head_dim, value_dim, queries, keys),
        tensors,
        blocks.arguments[-1],
        flat,
    )
    blocks.average(flat)
    return torch.from_numpy(output)


lln_causal = torch.library.custom_op("gibbsian::lln_causal", attend_to_earlier, mutates_args=())


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
        arrays.empty(*x.shape) for x in (query, key, value, query_scale, key_scale)
    )
    tensors = (*arrays.rows(query), *arrays.rows(key), *arrays.rows(value))
    upstream_rows = arrays.rows(upstream)
    mask = LinearMask(queries=queries, keys=keys, present=present, causal_offset=offset)
    blocks = DiagonalBlocks(mask, (batch, heads, head_dim, value_dim), tensors, block_size, scale)
    flat = tuple(x.reshape(-1) for x in (grad_query, grad_key, grad_value))
    tasks = batch * heads
    # A chunk may be as short as one query; pages that are not written to cost nothing.
    workers, chunks = num_workers(tasks), max(1, queries)
    kept = (
        arrays.empty(workers, chunks, arrays.padded_size(head_dim)),
        arrays.empty(workers, chunks, dtype=torch.int64),
        arrays.empty(workers, 2, queries),
    )
    run(
        differentiate_causally,
        tasks,
        offset,
        arrays.marks(present),
        (arrays.vector(query_scale), arrays.vector(key_scale)),
        blocks.share_rows(),
        (grad_query_scale.reshape(-1), grad_key_scale.reshape(-1)),
        kept,
        arrays.scratch(tasks, scratch_size(head_dim, value_dim)),
        (heads, head_dim, value_dim, queries, keys),
        tensors,
        blocks.arguments[-1],
        *upstream_rows,
        flat,
    )
    blocks.add_gradients(upstream_rows, flat)
    return (
        torch.from_numpy(grad_query),
        torch.from_numpy(grad_key),
        torch.from_numpy(grad_value),
        torch.from_numpy(grad_query_scale),
        torch.from_numpy(grad_key_scale),
    )


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
    if torch.is_grad_enabled():
        # to be differentiated again: the same in plain operations
        *floats, present = ctx.saved_tensors
        form = differentiable_form(present, *numbers)
        return *torch.func.vjp(form, *floats)[1](upstream), None, None, None, None
    return *_backward(upstream, *ctx.saved_tensors, *numbers), None, None, None, None


lln_causal.register_autograd(_differentiate, setup_context=_save)
