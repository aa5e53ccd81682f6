"""Tensors where they lie, as kernels take them: a flat array, and the distances in it.

Copies are NumPy's: torch's parallel operations would wait for ever in a forked child.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

Strided = tuple[Any, Any]
"""A flat array, and the distances of its dimensions, but for features that lie side by side."""


def rows(tensor: Tensor) -> Strided:
    """(batch, heads, rows, features), with the distances of the first three.

    Copied only if features are not contiguous.
    """
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        tensor = contiguous(tensor)
    return span(tensor), np.array(tensor.stride()[:3], np.int64)


def booleans(mask: Tensor | None, dims: int) -> Strided:
    """A mask's bytes, and the distances of all `dims` dimensions, 0 where it is broadcast.

    An expanded mask is not written out. No mask is an empty array: nothing is masked.
    """
    if mask is None:
        return np.empty(0, np.uint8), np.zeros(dims, np.int64)
    distances = [
        stride if size > 1 else 0 for size, stride in zip(mask.shape, mask.stride(), strict=True)
    ]
    return span(mask.view(torch.uint8)), np.array(distances, np.int64)


def contiguous(tensor: Tensor) -> Tensor:
    """A copy."""
    return torch.from_numpy(np.array(tensor.detach().numpy(), order="C"))


def span(tensor: Tensor) -> Any:
    """What the tensor spans, as one row."""
    tensor = tensor.detach()
    if tensor.is_contiguous():
        return tensor.view(-1).numpy()
    if tensor.numel() == 0:
        return tensor.reshape(0).numpy()
    distances = zip(tensor.shape, tensor.stride(), strict=True)
    length = 1 + sum((size - 1) * stride for size, stride in distances)
    return tensor.as_strided((length,), (1,)).numpy()
