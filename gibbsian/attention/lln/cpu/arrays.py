"""Tensors as the arrays that kernels take, and arrays that kernels work in.

Copies and sums are NumPy's: torch's parallel operations would wait for ever in a forked child.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.numerics.cpu.simd import LANES
from gibbsian.numerics.cpu.threads import num_workers

Rows = tuple[Any, Any]
"""A flat array, and the distances of samples, heads and rows in it."""


def rows(tensor: Tensor) -> Rows:
    """(batch, heads, rows, features) where it lies; copied only if features are not contiguous."""
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        tensor = _contiguous(tensor)
    return _flat(tensor), np.array(tensor.stride()[:3], np.int64)


def marks(present: Tensor | None) -> Rows:
    """(batch, heads, keys) booleans as bytes; empty = every key is present."""
    if present is None:
        return np.empty(0, np.uint8), np.zeros(3, np.int64)
    if present.stride(-1) != 1:
        present = _contiguous(present)
    return numbers(present.view(torch.uint8))


def numbers(tensor: Tensor) -> Rows:
    """(batch, heads, rows), where it lies."""
    return _flat(tensor), np.array(tensor.stride(), np.int64)


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Any:
    """Uninitialised, whatever torch's default dtype and device; aligned as tensors are."""
    return torch.empty(shape, dtype=dtype, device="cpu").numpy()


def per_head(parts: Any, heads: int) -> Any:
    """Sums over the tasks of each head; parts of no task are 0."""
    with np.errstate(all="ignore"):  # infinities are the caller's, and stay visible
        return parts.reshape(heads, parts.shape[0] // max(1, heads), *parts.shape[1:]).sum(axis=1)


def float32_like(values: Any, tensor: Tensor) -> Tensor:
    """Numbers rounded to float32, in the shape of the tensor."""
    with np.errstate(all="ignore"):  # what overflows is infinite
        return torch.from_numpy(values.astype(np.float32).reshape(tensor.shape))


def scratch(tasks: int, size: int) -> Any:
    """Working space of each worker, allocated once a call."""
    return empty(num_workers(tasks), size)


def padded_size(size: int) -> int:
    """The next multiple of `LANES`."""
    return -(-size // LANES) * LANES


def vector(per_head: Tensor) -> Any:
    """(batch, heads) as one row, whatever its strides."""
    return np.ascontiguousarray(per_head.detach().numpy()).reshape(-1)


def _contiguous(tensor: Tensor) -> Tensor:
    return torch.from_numpy(np.array(tensor.detach().numpy(), order="C"))


def _flat(tensor: Tensor) -> Any:
    """What the tensor spans, as one row."""
    tensor = tensor.detach()
    if tensor.is_contiguous():
        return tensor.view(-1).numpy()
    if tensor.numel() == 0:
        return tensor.reshape(0).numpy()
    distances = zip(tensor.shape, tensor.stride(), strict=True)
    span = 1 + sum((size - 1) * stride for size, stride in distances)
    return tensor.as_strided((span,), (1,)).numpy()
