"""What the plain and the fused entmax must agree on."""

from typing import Any

from torch import Tensor

MAX_STEPS = 60
"""Bound on Newton steps; a handful are taken (docs/derivations/entmax.md#convergence)."""

SPARSITY_SLACK = 1e-6
"""How far a computed zeta may leave [0, 1] by rounding before its row becomes NaN."""


def valid_sparsity(zeta: Tensor) -> Tensor:
    """Where zeta lies in [0, 1], up to rounding; NaN does not."""
    return (zeta > -SPARSITY_SLACK) & (zeta < 1 + SPARSITY_SLACK)


def batch_first(
    info: Any, in_dims: tuple[int | None, ...], tensors: tuple[Tensor, ...]
) -> list[Tensor]:
    """The arguments of a `torch.func.vmap` rule with the mapped dimension first, in all of them.

    Rows are independent, so a function of rows maps by being given more of them.
    """
    return [
        tensor.expand(info.batch_size, *tensor.shape)
        if in_dim is None
        else tensor.movedim(in_dim, 0)
        for tensor, in_dim in zip(tensors, in_dims, strict=True)
    ]
