"""Tensors as the arrays that kernels take, and arrays that kernels work in.

Copies and sums are NumPy's: torch's parallel operations would wait for ever in a forked child.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.cpu.strided import Strided, booleans, contiguous, rows
from gibbsian.numerics.cpu.simd import LANES
from gibbsian.numerics.cpu.threads import num_workers

__all__ = [
    "Strided",
    "empty",
    "float32_like",
    "marks",
    "padded_size",
    "per_head",
    "rows",
    "scratch",
    "vector",
]


def marks(present: Tensor | None) -> Strided:
    """(batch, heads, keys) booleans as bytes, a head's side by side; empty = all are present."""
    if present is not None and present.stride(-1) != 1:
        present = contiguous(present)
    return booleans(present, 3)


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
