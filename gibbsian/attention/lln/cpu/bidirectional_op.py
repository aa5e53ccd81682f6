"""LLN over all keys as a torch operator."""

from typing import Any

import torch
from torch import Tensor

from gibbsian.attention.lln.cpu import arrays
from gibbsian.attention.lln.cpu.bidirectional import (
    SEGMENT,
    merge_states,
    read_queries,
    scratch_size,
    sum_keys,
)
from gibbsian.attention.lln.cpu.bidirectional_backward import (
    differentiate_keys,
    differentiate_queries,
)
from gibbsian.attention.lln.cpu.diagonal_blocks import DiagonalBlocks
from gibbsian.attention.lln.cpu.twice import differentiable_form
from gibbsian.attention.lln.masks import LinearMask
from gibbsian.numerics.cpu.simd import LANES
from gibbsian.numerics.cpu.threads import run


def attend_to_all(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_scale: Tensor,
    key_scale: Tensor,
    present: Tensor | None,
    block_size: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output of every query over all present keys, and the state of these keys.

    Args:
        query: (batch, heads, queries, head_dim) float32, any strides; as are the others.
        key: as many heads.
        value: the same; finite where absent.
        query_scale: (batch, heads) float32; log features are scale * query.
        key_scale: the same.
        present: (batch, heads, keys) boolean; None = all.
        block_size: of the diagonal blocks of LLN+Diag; 0 = LLN alone.
        scale: of the blocks' scores.

    Returns:
        The output; and for the backward pass the memory and (maximum, mass) of all keys, whose
        sizes are padded. Differentiable through the output only; a second derivative is taken by
        the reference.
    """
    batch, heads, queries, head_dim = query.shape
    keys, value_dim = value.shape[-2:]
    query_rows, key_rows, value_rows = map(arrays.rows, (query, key, value))
    mask = LinearMask(queries=queries, keys=keys, present=present)
    blocks = DiagonalBlocks(
        mask,
        (batch, heads, head_dim, value_dim),
        (*query_rows, *key_rows, *value_rows),
        block_size,
        scale,
    )
    memory, sums = (arrays.empty(*x) for x in _state_shapes(query, value))
    output = arrays.empty(batch, heads, queries, value_dim)
    flat = output.reshape(-1)
    segments = max(1, -(-keys // SEGMENT))
    memories, parts = memory, sums
    if segments > 1:
        memories, parts = (
            arrays.empty(batch * heads * segments, *whole.shape[1:]) for whole in (memory, sums)
        )
    query_segments = -(-queries // blocks.rows_a_task)
    tasks = batch * heads * max(segments, query_segments)
    scratch = arrays.scratch(tasks, scratch_size(head_dim, value_dim))
    run(
        sum_keys,
        batch * heads * segments,
        segments,
        heads,
        head_dim,
        value_dim,
        keys,
        *key_rows,
        *value_rows,
        *arrays.marks(present),
        arrays.vector(key_scale),
        memories,
        parts,
        scratch,
    )
    if segments > 1:
        merged = (memories, parts, memory, sums)
        run(merge_states, batch * heads, segments, *merged)
    run(
        read_queries,
        batch * heads * query_segments,
        query_segments,
        blocks.rows_a_task,
        blocks.rows_a_part,
        heads,
        head_dim,
        value_dim,
        queries,
        *query_rows,
        arrays.vector(query_scale),
        memory,
        sums,
        flat,
        scratch,
        *blocks.arguments,
    )
    blocks.average(flat)
    return torch.from_numpy(output), torch.from_numpy(memory), torch.from_numpy(sums)


lln_bidirectional = torch.library.custom_op(
    "gibbsian::lln_bidirectional", attend_to_all, mutates_args=()
)


@lln_bidirectional.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_scale: Tensor,
    key_scale: Tensor,
    present: Tensor | None,
    block_size: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    del key, query_scale, key_scale, present, block_size, scale
    output = query.new_empty((*query.shape[:3], value.shape[-1]))
    memory, sums = (query.new_empty(shape) for shape in _state_shapes(query, value))
    return output, memory, sums


@torch.library.custom_op("gibbsian::lln_bidirectional_backward", mutates_args=())
def _backward(
    upstream: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_scale: Tensor,
    key_scale: Tensor,
    present: Tensor | None,
    block_size: int,
    scale: float,
    memory: Tensor,
    sums: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, heads, queries, head_dim = query.shape
    keys, value_dim = value.shape[-2:]
    query_rows, key_rows, value_rows, upstream_rows = map(
        arrays.rows, (query, key, value, upstream)
    )
    mask = LinearMask(queries=queries, keys=keys, present=present)
    blocks = DiagonalBlocks(
        mask,
        (batch, heads, head_dim, value_dim),
        (*query_rows, *key_rows, *value_rows),
        block_size,
        scale,
        near=256,
    )
    grad_query, grad_key, grad_value = (arrays.empty(*x.shape) for x in (query, key, value))
    flat = tuple(x.reshape(-1) for x in (grad_query, grad_key, grad_value))
    segments = -(-queries // SEGMENT)
    tasks = batch * heads * segments
    grad_memory = arrays.empty(tasks, *memory.shape[1:])
    grad_mass = arrays.empty(tasks, memory.shape[1])
    grad_query_scale = arrays.empty(tasks, dtype=torch.float64)
    key_segments = -(-keys // blocks.rows_a_task)
    key_tasks = batch * heads * key_segments
    scratch = arrays.scratch(max(tasks, key_tasks), scratch_size(head_dim, value_dim))
    run(
        differentiate_queries,
        tasks,
        segments,
        heads,
        head_dim,
        value_dim,
        queries,
        *query_rows,
        *upstream_rows,
        *blocks.share_rows(),
        arrays.vector(query_scale),
        memory.numpy(),
        sums.numpy(),
        flat[0],
        grad_memory,
        grad_mass,
        grad_query_scale,
        scratch,
    )
    grad_memory, grad_mass = (arrays.per_head(x, batch * heads) for x in (grad_memory, grad_mass))
    grad_key_scale = arrays.empty(key_tasks, dtype=torch.float64)
    run(
        differentiate_keys,
        key_tasks,
        key_segments,
        blocks.rows_a_task,
        blocks.rows_a_part,
        heads,
        head_dim,
        value_dim,
        keys,
        *key_rows,
        *value_rows,
        *arrays.marks(present),
        arrays.vector(key_scale),
        sums.numpy(),
        grad_memory,
        grad_mass,
        grad_key_scale,
        scratch,
        *blocks.arguments,
        *upstream_rows,
        flat,
    )
    blocks.add_gradients(upstream_rows, flat)
    return (
        torch.from_numpy(grad_query),
        torch.from_numpy(grad_key),
        torch.from_numpy(grad_value),
        arrays.float32_like(arrays.per_head(grad_query_scale, batch * heads), query_scale),
        arrays.float32_like(arrays.per_head(grad_key_scale, batch * heads), key_scale),
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
    block_size: int,
    scale: float,
    memory: Tensor,
    sums: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    del upstream, present, memory, sums, block_size, scale
    return (
        query.new_empty(query.shape),
        key.new_empty(key.shape),
        value.new_empty(value.shape),
        query_scale.new_empty(query_scale.shape),
        key_scale.new_empty(key_scale.shape),
    )


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.block_size, ctx.scale = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*tensors, *output[1:])


def _differentiate(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        # to be differentiated again: the same in plain operations
        *floats, present, _, _ = ctx.saved_tensors
        form = differentiable_form(present, None, ctx.block_size, ctx.scale)
        return *torch.func.vjp(form, *floats)[1](upstream), None, None, None
    *tensors, memory, sums = ctx.saved_tensors
    gradients = _backward(upstream, *tensors, ctx.block_size, ctx.scale, memory, sums)
    return *gradients, None, None, None


lln_bidirectional.register_autograd(_differentiate, setup_context=_save)


def _state_shapes(query: Tensor, value: Tensor) -> Any:
    """Shapes of the memory and of the maximum and mass; the sizes may be symbols."""
    count = query.shape[0] * query.shape[1]
    # as `arrays.padded_size` does
    width, value_width = (-(-rows.shape[-1] // LANES) * LANES for rows in (query, value))
    return (count, width, value_width), (count, 2, width)
