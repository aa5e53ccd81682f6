"""Softmax with the edge rules of every row: absent states, empty rows, half precision."""

import torch
from torch import Tensor

from gibbsian._typing import Mask, Scores
from gibbsian.numerics.masked import present_states, shifted_scores, working_dtype
from gibbsian.numerics.summation import row_sum


def softmax(scores: Scores, *, mask: Mask | None = None, dim: int = -1) -> Tensor:
    r"""Probabilities $p_j = e^{x_j}/Z$ along `dim`: `entmax` at zeta = 0, without its iteration.

    Args:
        scores: any shape; -inf marks an absent state.
        mask: True = present; broadcastable to `scores`. None = all.
        dim: dimension of the states.

    Returns:
        Tensor like `scores` (same shape, dtype and device); all 0 in a row with no state.

    Raises:
        ArgumentError: scores not floating-point, a mask that does not fit.

    Notes:
        Unlike `torch.softmax` it has no NaN in a row with no state, and in float32 its sum is 1 to
        1e-6 for a million states. Half precision is computed in float32. O(states) time.
    """
    present = present_states(scores, mask, dim).movedim(dim, -1)
    rows = scores.movedim(dim, -1).to(working_dtype(scores))
    shifted, _ = shifted_scores(rows, present)
    weights = torch.where(present, shifted.exp(), 0.0)
    occupied = present.any(dim=-1, keepdim=True)
    probs = weights / torch.where(occupied, row_sum(weights), 1.0)
    return probs.to(scores.dtype).movedim(-1, dim)
