"""Mean and variance of the elements of each head of queries and of keys, in one pass."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.lln.cpu import arrays
from gibbsian.attention.lln.cpu.features import BLOCK, head_start
from gibbsian.attention.lln.moments import element_variance
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.threads import run

_SEGMENT = 4096
"""Rows of a task: a part of a long head, or several short ones."""

_DTYPES = (torch.float32, torch.float64, torch.float32)
"""Of variances, means and counts."""

_ZERO = np.float32(0)


@kernel
def _total(row: Any) -> float:
    total = _ZERO
    for f in range(row.size):
        total += row[f]
    return total


@kernel
def _deviations(row: Any, center: float) -> tuple[float, float]:
    """Their sum and that of their squares."""
    total, squares = _ZERO, _ZERO
    for f in range(row.size):
        deviation = row[f] - center
        total += deviation
        squares += deviation * deviation
    return total, squares


@kernel
def _moments(
    first: int,
    stop: int,
    width: int,
    elements: Any,
    start: int,
    step: int,
    present: Any,
    seen: int,
    present_step: int,
) -> tuple[int, float, float]:
    """Number of present rows of a segment, mean of their elements and squared deviations.

    Blocks merge as central moments do: sums of squares would cancel where the mean is large.
    """
    total, mean, squares = 0, 0.0, 0.0
    # without gaps a block is one long row
    joined = BLOCK if step == width and present.size == 0 else 1
    for row in range(first, stop, BLOCK):
        end = min(stop, row + BLOCK)
        found, partial = 0, _ZERO
        for r in range(row, end, joined):
            if present.size == 0 or present[seen + r * present_step] != 0:
                rows = min(joined, end - r)
                found += rows
                partial += _total(elements[start + r * step :][: rows * width])
        if found == 0:
            continue
        center = partial / np.float32(found * width)
        excess, block_squares = 0.0, 0.0
        for r in range(row, end, joined):
            if present.size == 0 or present[seen + r * present_step] != 0:
                rows = min(joined, end - r)
                sums = _deviations(elements[start + r * step :][: rows * width], center)
                excess += sums[0]
                block_squares += sums[1]
        # what rounding left between the center and the mean
        excess /= found * width
        difference = center + excess - mean
        squares += block_squares - excess * excess * found * width
        squares += difference * difference * width * total * found / (total + found)
        total += found
        mean += difference * found / total
    return total, mean, squares


@kernel
def _measure(
    task: int,
    worker: int,
    tasks_a_side: int,
    heads_a_task: int,
    segments: int,
    count: int,
    heads: int,
    width: int,
    sides: Any,
    parts: Any,
) -> None:
    """`_moments` of one segment of a head, or of some short heads: `parts[side, head, segment]`."""
    side, unit = task // tasks_a_side, task % tasks_a_side
    rows, elements, strides, present, present_strides = sides[side]
    segment = unit % segments
    group = unit // segments * heads_a_task
    for head in range(group, min(count, group + heads_a_task)):
        total, mean, squares = _moments(
            min(rows, segment * _SEGMENT),
            min(rows, (segment + 1) * _SEGMENT),
            width,
            elements,
            head_start(strides, head, heads),
            strides[2],
            present,
            head_start(present_strides, head, heads),
            present_strides[2],
        )
        part = parts[side, head, segment]
        part[0], part[1], part[2] = total, mean, squares


@kernel
def _merge(width: int, parts: Any, variances: Any, means: Any, counts: Any) -> None:
    """The moments of each head from those of its segments."""
    sides, heads, segments = parts.shape[:3]
    for side in range(sides):
        for head in range(heads):
            part = parts[side, head]
            total, mean, squares = 0.0, 0.0, 0.0
            for s in range(segments):
                total += part[s, 0]
            share = 1.0 / max(total, 1.0)
            for s in range(segments):
                mean += share * part[s, 0] * part[s, 1]
            for s in range(segments):
                deviation = part[s, 1] - mean
                squares += part[s, 2] + width * part[s, 0] * deviation * deviation
            variances[side, head] = squares / max(total * width, 1.0)
            means[side, head] = mean
            counts[side, head] = total * width


@kernel
def _differentiate(
    task: int,
    worker: int,
    segments: int,
    heads: int,
    count: int,
    width: int,
    elements: Any,
    strides: Any,
    present: Any,
    present_strides: Any,
    centers: Any,
    slopes: Any,
    gradient: Any,
) -> None:
    """Slope times (element - center) at present rows, 0 elsewhere."""
    head = task // segments
    first = task % segments * _SEGMENT
    start, step = head_start(strides, head, heads), strides[2]
    seen = head_start(present_strides, head, heads)
    slope = slopes[head]
    # The rest counts where elements are large: gradients in them sum to 0.
    center = np.float32(centers[head])
    rest = np.float32(centers[head] - center)
    stop = min(count, first + _SEGMENT)
    # without gaps a segment is one long row
    joined = _SEGMENT if step == width and present.size == 0 else 1
    for r in range(first, stop, joined):
        size = min(joined, stop - r) * width
        target = gradient[(head * count + r) * width :][:size]
        if present.size == 0 or present[seen + r * present_strides[2]] != 0:
            line = elements[start + r * step :][:size]
            for f in range(size):
                target[f] = slope * (line[f] - center - rest)
        else:
            target[:] = _ZERO


def measure_moments(
    query: Tensor, key: Tensor, query_present: Tensor | None, key_present: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Variance and mean of the elements of each head at its present rows, and their number.

    Args:
        query: (batch, heads, queries, width) float32, any strides.
        key: the same, with as many heads.
        query_present: (batch, heads, queries) boolean; None = all.
        key_present: the same of the keys.

    Returns:
        Each (2, batch, heads), of the queries and of the keys, the mean in float64; 0 where no row
        is present. Differentiable in the variances; a second derivative is taken by the reference.
    """
    batch, heads, _, width = query.shape
    sides = tuple(
        (elements.shape[2], *arrays.rows(elements), *arrays.marks(present))
        for elements, present in ((query, query_present), (key, key_present))
    )
    count, longest = batch * heads, max(query.shape[2], key.shape[2], 1)
    segments, heads_a_task = -(-longest // _SEGMENT), max(1, _SEGMENT // longest)
    tasks = -(-count // heads_a_task) * segments
    parts = arrays.empty(2, count, segments, 3, dtype=torch.float64)
    run(_measure, 2 * tasks, tasks, heads_a_task, segments, count, heads, width, sides, parts)
    shape = (2, batch, heads)
    variances, means, counts = (torch.empty(shape, dtype=x, device="cpu") for x in _DTYPES)
    _merge(width, parts, *(x.view(2, count).numpy() for x in (variances, means, counts)))
    return variances, means, counts


lln_moments = torch.library.custom_op("gibbsian::lln_moments", measure_moments, mutates_args=())


@lln_moments.register_fake
def _(
    query: Tensor, key: Tensor, query_present: Tensor | None, key_present: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    del key, query_present, key_present
    variances, means, counts = (query.new_empty((2, *query.shape[:2]), dtype=x) for x in _DTYPES)
    return variances, means, counts


@torch.library.custom_op("gibbsian::lln_moments_backward", mutates_args=())
def _backward(elements: Tensor, present: Tensor | None, center: Tensor, slope: Tensor) -> Tensor:
    batch, heads, rows, width = elements.shape
    gradient = arrays.empty(*elements.shape)
    segments = -(-rows // _SEGMENT)
    run(
        _differentiate,
        batch * heads * segments,
        segments,
        heads,
        rows,
        width,
        *arrays.rows(elements),
        *arrays.marks(present),
        arrays.vector(center),
        arrays.vector(slope),
        gradient.reshape(-1),
    )
    return torch.from_numpy(gradient)


@_backward.register_fake
def _(elements: Tensor, present: Tensor | None, center: Tensor, slope: Tensor) -> Tensor:
    del present, center, slope
    return elements.new_empty(elements.shape)


def _save(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*inputs, *output[1:])


def _differentiate_op(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    query, key, *present, means, counts = ctx.saved_tensors
    slopes = 2 * upstream / counts.clamp_min(1)
    gradients: list[Tensor | None] = [None, None]
    for side, elements in enumerate((query, key)):
        if not ctx.needs_input_grad[side]:
            continue
        if torch.is_grad_enabled():
            # to be differentiated again: the same in plain operations
            plain = functools.partial(_plain_variance, present=present[side])
            gradients[side] = torch.func.vjp(plain, elements)[1](upstream[side])[0]
        else:
            gradients[side] = _backward(elements, present[side], means[side], slopes[side])
    return *gradients, None, None


def _plain_variance(elements: Tensor, present: Tensor | None) -> Tensor:
    return element_variance(elements, present)[..., 0, 0]


lln_moments.register_autograd(_differentiate_op, setup_context=_save)
