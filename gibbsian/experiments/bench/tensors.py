"""The tensors that contenders compute on, always the same for a size."""

from collections.abc import Callable

import torch
from torch import Tensor

Maker = Callable[[int], dict[str, Tensor]]


def attention_tensors(
    *, heads: int, head_dim: int, score_std: float, queries: int | None = None
) -> Maker:
    """Gaussian query, key and value, (1, heads, N, head_dim), float32.

    Args:
        heads: number of them.
        head_dim: numbers in a key.
        score_std: standard deviation of the scores of every row, as seen over all keys. Queries
            have that standard deviation and keys have 1. The keys of a row's support lie anywhere:
            no block of keys is easier than another.
        queries: number of them; None = as many as keys.
    """

    def make(size: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(size)
        shape = (1, heads, size, head_dim)
        rows = size if queries is None else queries
        return {
            "query": score_std * torch.randn((1, heads, rows, head_dim), generator=generator),
            "key": torch.randn(shape, generator=generator),
            "value": torch.randn(shape, generator=generator),
        }

    return make


def row_tensors(*, rows: int, std: float) -> Maker:
    """Gaussian scores (rows, states), float32, and for each row an alpha (rows, 1) in [1.05, 2].

    The entmax package does not work at alpha = 1, and is inexact near it.
    """

    def make(size: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(size)
        return {
            "scores": std * torch.randn((rows, size), generator=generator),
            "alpha": 1.05 + 0.95 * torch.rand((rows, 1), generator=generator),
        }

    return make
