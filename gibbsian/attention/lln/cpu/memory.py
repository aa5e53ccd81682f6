"""Tensors as kernels take them, and the space that kernels work in."""

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
        tensor = tensor.contiguous()
    return _flat(tensor), np.array(tensor.stride()[:3], np.int64)


def marks(present: Tensor | None) -> Rows:
    """(batch, heads, keys) booleans as bytes; empty = every key is present."""
    if present is None:
        return np.empty(0, np.uint8), np.zeros(3, np.int64)
    if present.stride(-1) != 1:
        present = present.contiguous()
    return numbers(present.view(torch.uint8))


def numbers(tensor: Tensor) -> Rows:
    """(batch, heads, rows), where it lies."""
    return _flat(tensor), np.array(tensor.stride(), np.int64)


def empty(*shape: int) -> Tensor:
    """Uninitialised float32."""
    return torch.empty(shape, dtype=torch.float32)


def per_head(parts: Tensor, heads: int) -> Tensor:
    """Sums over the tasks of each head; parts of no task are 0."""
    return parts.unflatten(0, (heads, parts.shape[0] // max(1, heads))).sum(dim=1)


def scratch(tasks: int, size: int) -> Any:
    """Working space of each worker, allocated once a call."""
    return empty(num_workers(tasks), size).numpy()


def padded_size(size: int) -> int:
    """The next multiple of `LANES`."""
    return -(-size // LANES) * LANES


def vector(per_head: Tensor) -> Any:
    """(batch, heads) as one row, whatever its strides."""
    return per_head.detach().reshape(-1).numpy()


def _flat(tensor: Tensor) -> Any:
    """What the tensor spans, as one row."""
    tensor = tensor.detach()
    if tensor.numel() == 0:
        return tensor.reshape(0).numpy()
    distances = zip(tensor.shape, tensor.stride(), strict=True)
    span = 1 + sum((size - 1) * stride for size, stride in distances)
    return tensor.as_strided((span,), (1,)).numpy()
