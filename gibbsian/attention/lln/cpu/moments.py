"""Mean and variance of the elements of each head, in one pass."""

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
"""Rows of a task."""

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
    moments: Any,
) -> None:
    """Number of present rows of a segment, mean of their elements and squared deviations.

    Blocks merge as central moments do: sums of squares would cancel where the mean is large.
    """
    head = task // segments
    first = task % segments * _SEGMENT
    stop = min(count, first + _SEGMENT)
    start, step = head_start(strides, head, heads), strides[2]
    seen = head_start(present_strides, head, heads)
    total, mean, squares = 0, 0.0, 0.0
    # without gaps a block is one long row
    joined = BLOCK if step == width and present.size == 0 else 1
    for row in range(first, stop, BLOCK):
        end = min(stop, row + BLOCK)
        found, partial = 0, _ZERO
        for r in range(row, end, joined):
            if present.size == 0 or present[seen + r * present_strides[2]] != 0:
                rows = min(joined, end - r)
                found += rows
                partial += _total(elements[start + r * step :][: rows * width])
        if found == 0:
            continue
        center = partial / np.float32(found * width)
        excess, block_squares = 0.0, 0.0
        for r in range(row, end, joined):
            if present.size == 0 or present[seen + r * present_strides[2]] != 0:
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
    moments[task, 0], moments[task, 1], moments[task, 2] = total, mean, squares


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


@torch.library.custom_op("gibbsian::lln_moments", mutates_args=())
def lln_moments(elements: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Variance and mean of the elements of each head at its present rows, and their number.

    Args:
        elements: (batch, heads, rows, width) float32, any strides.
        present: (batch, heads, rows) boolean; None = all.

    Returns:
        Each (batch, heads), the mean in float64; 0 where no row is present. Differentiable in the
        variance; a second derivative is taken by the reference.
    """
    batch, heads, rows, width = elements.shape
    segments = max(1, -(-rows // _SEGMENT))
    parts = arrays.empty(batch * heads * segments, 3, dtype=torch.float64)
    run(
        _moments,
        batch * heads * segments,
        segments,
        heads,
        rows,
        width,
        *arrays.rows(elements),
        *arrays.marks(present),
        parts,
    )
    total, mean, squares = np.moveaxis(parts.reshape(batch, heads, segments, 3), -1, 0)
    count = total.sum(axis=-1)
    share = total / np.maximum(count, 1)[..., np.newaxis]
    with np.errstate(all="ignore"):  # infinities are the caller's, and stay visible
        overall = (share * mean).sum(axis=-1)
        between = (share * (mean - overall[..., np.newaxis]) ** 2).sum(axis=-1)
        variance = squares.sum(axis=-1) / np.maximum(count * width, 1) + between
        single = variance.astype(np.float32), (count * width).astype(np.float32)
    return torch.from_numpy(single[0]), torch.from_numpy(overall), torch.from_numpy(single[1])


@lln_moments.register_fake
def _(elements: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    del present
    variance, count = (elements.new_empty(elements.shape[:2]) for _ in range(2))
    return variance, elements.new_empty(elements.shape[:2], dtype=torch.float64), count


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


def _differentiate_op(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor, None]:
    elements, present, mean, count = ctx.saved_tensors
    if torch.is_grad_enabled():
        # to be differentiated again: the same in plain operations
        def plain(elements: Tensor) -> Tensor:
            return element_variance(elements, present)[..., 0, 0]

        return torch.func.vjp(plain, elements)[1](upstream)[0], None
    slope = 2 * upstream / count.clamp_min(1)
    return _backward(elements, present, mean, slope), None


lln_moments.register_autograd(_differentiate_op, setup_context=_save)
