r"""The two ways to take tokens away: below a threshold, and by rank.

A boolean mask is several times slower than arithmetic on a CPU, and a mask of its size is what a
cut mostly costs: the tokens kept get 0 added, those cut $-\infty$.
"""

import torch
from torch import Tensor


def kept(measure: Tensor, threshold: Tensor) -> Tensor:
    """1 where `measure >= threshold`, else 0, written into `measure`: no second large tensor."""
    return torch.ge(measure, threshold, out=measure)


def cut(rows: Tensor, keep: Tensor) -> Tensor:
    """The rows with -inf where `keep` is 0, written into `keep` (which is 1 elsewhere)."""
    return torch.threshold_(keep, 0.5, -torch.inf).sub_(1.0).add_(rows)


def sorted_values(rows: Tensor) -> Tensor:
    """Values in ascending order, without their positions: many times faster on a CPU."""
    if rows.device.type == "cpu":
        import numpy as np  # noqa: PLC0415

        return torch.from_numpy(np.sort(rows.numpy(), axis=-1))
    return torch.sort(rows, dim=-1).values


def cut_smallest(rows: Tensor, ascending: Tensor, count: Tensor) -> Tensor:
    """The rows without their `count` smallest scores; of equal ones the last leave first.

    Args:
        rows: (rows, states).
        ascending: their values in ascending order.
        count: (rows, 1) integers, from 0 to states - 1.
    """
    level = ascending.gather(-1, count)
    staying = torch.searchsorted(ascending, level, right=True) - count
    tied = torch.eq(rows, level, out=torch.empty_like(rows))
    # counted exactly up to 2^24 tokens
    keep = tied.cumsum(dim=-1)
    torch.le(keep, staying.to(keep.dtype), out=keep).mul_(tied)
    keep.add_(torch.gt(rows, level, out=tied))
    return cut(rows, keep)
