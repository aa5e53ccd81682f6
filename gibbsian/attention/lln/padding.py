"""Lengthening and shortening along the steps, without a copy where nothing changes."""

from torch import Tensor
from torch.nn.functional import pad


def pad_steps(rows: Tensor, before: int, after: int, fill: float = 0.0) -> Tensor:
    """(..., steps, dim) with steps added, or cut off where negative, at either end."""
    if before == 0 and after == 0:
        return rows
    return pad(rows, (0, 0, before, after), value=fill)
