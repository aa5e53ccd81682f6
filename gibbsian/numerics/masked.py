r"""Where absent states leave the arithmetic: the edge rules of every row, decided once.

A state is absent when its mask is False or its score is $-\infty$. It is removed *before* any
exponential or product is taken, so that no $0 \cdot \infty$ can reach a value or a gradient. A row
with no state at all has probabilities 0, entropy 0 and $\log Z = -\infty$. NaN and $+\infty$ stay
in their row and turn it into NaN, unless validation is asked for.
"""

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError


def working_dtype(scores: Tensor) -> torch.dtype:
    """float32 for half precision, else the dtype itself: what statistics and thresholds use."""
    if not scores.is_floating_point():
        raise ArgumentError(
            f"`scores` must be floating-point, got {scores.dtype}. Convert with `.float()`."
        )
    return torch.promote_types(scores.dtype, torch.float32)


def check_dim(scores: Tensor, dim: int) -> None:
    """Raises `ArgumentError` when `scores` has no dimension `dim`."""
    if scores.dim() == 0 or not -scores.dim() <= dim < scores.dim():
        raise ArgumentError(
            f"`dim` must name a dimension of `scores`, got dim={dim} for shape "
            f"{tuple(scores.shape)}. Rows need at least one dimension."
        )


def present_states(scores: Tensor, mask: Tensor | None, dim: int = -1) -> Tensor:
    """Boolean tensor of the states that take part, in the shape of `scores`.

    Raises:
        ArgumentError: `scores` has no states along `dim`, or `mask` is not boolean or does not
            broadcast to `scores`.
    """
    check_dim(scores, dim)
    present = scores != -torch.inf
    if mask is None:
        return present
    if mask.dtype != torch.bool:
        raise ArgumentError(
            f"`mask` must be boolean with True = present, got {mask.dtype}. "
            "For an additive mask, add it to the scores: -inf marks a state as absent."
        )
    if mask.device != scores.device:
        raise ArgumentError(
            f"`mask` must be on the device of `scores` ({scores.device}), got {mask.device}. "
            "Move it with `.to(scores.device)`."
        )
    try:
        return present & mask.expand(scores.shape)
    except RuntimeError:
        raise ArgumentError(
            f"`mask` must broadcast to the shape of `scores` {tuple(scores.shape)}, "
            f"got {tuple(mask.shape)}."
        ) from None


def check_finite(scores: Tensor, mask: Tensor | None = None) -> None:
    """Raises `ArgumentError` when a present score is NaN or +inf (forces a device sync)."""
    bad = scores.isnan() | (scores == torch.inf)
    if mask is not None:
        bad = bad & mask
    if bool(bad.any()):
        raise ArgumentError(
            f"`scores` must be finite or -inf, got {int(bad.sum())} NaN or +inf value(s), "
            f"the first at row-wise index {tuple(bad.nonzero()[0].tolist())}. "
            "Mask them out, or find where they arise."
        )


def shifted_scores(scores: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    r"""Scores relative to their row's maximum along the last dimension, and that maximum.

    Returns:
        `(shifted, maximum)`: `shifted <= 0`, and 0 at absent states (they must be dropped with
        `present` afterwards); `maximum` keeps the last dimension with size 1 and is 0 in a row with
        no state.
    """
    if scores.shape[-1] == 0:
        return scores, scores.new_zeros((*scores.shape[:-1], 1))
    maximum = torch.where(present, scores, -torch.inf).amax(dim=-1, keepdim=True)
    maximum = torch.where(present.any(dim=-1, keepdim=True), maximum, 0.0)
    return torch.where(present, scores - maximum, 0.0), maximum
