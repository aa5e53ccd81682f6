"""`entmax` for the many rows of an attention: the same function, several times faster."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.normalizers.entmax import entmax
from gibbsian.normalizers.entmax_kernels import entmax_backward, entmax_forward
from gibbsian.normalizers.entmax_shared import batch_first


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it untyped
def fused_entmax(
    scores: Float[Tensor, "*batch states"], zeta: Float[Tensor, "*#batch 1"]
) -> Float[Tensor, "*batch states"]:
    r"""`entmax(scores, zeta)` along the last dimension, in place a few rows at a time.

    Args:
        scores: float32 or wider; -inf marks an absent state.
        zeta: sparsity of each row, in [0, 1] and in the dtype of `scores`.

    Returns:
        Probabilities, exactly 0 off the support; all 0 in a row with no state. A row with a NaN or
        +inf score, or with a sparsity outside [0, 1], is NaN.

    Notes:
        Differentiable in both, to second order (at the cost of `entmax`); works under
        `torch.func.vmap`, not in forward mode. Inside `torch.compile` it runs as it is: how many
        steps it takes depends on the data. The backward pass keeps the probabilities and, for the
        gradient in zeta, the scores. Rows are divided by their sum: beyond 1e4 states `entmax` is
        the more accurate.

    References:
        docs/derivations/aes.md#kernels.
    """
    probs: Tensor = _FusedEntmax.apply(scores, zeta.expand(*scores.shape[:-1], 1))
    return probs


class _FusedEntmax(torch.autograd.Function):
    @staticmethod
    def forward(scores: Tensor, zeta: Tensor) -> Tensor:
        return entmax_forward(scores, zeta)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        scores, zeta = inputs
        # the gradient in the scores needs the result only
        ctx.save_for_backward(scores if ctx.needs_input_grad[1] else None, zeta, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        scores, zeta, probs = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return entmax_backward(grad, probs, zeta, scores)
        # to be differentiated again: the same in plain operations
        if scores is None:
            support = probs > 0
            # a state off the support has no influence, even where the gradient given is infinite
            grad = torch.where(support, grad, 0.0)
            response = torch.where(support, torch.where(support, probs, 1.0) ** (1 - zeta), 0.0)
            total = response.sum(dim=-1, keepdim=True)
            mean = (response * grad).sum(dim=-1, keepdim=True) / torch.where(total > 0, total, 1.0)
            return response * (grad - mean), None
        pull_back = torch.func.vjp(entmax, scores, zeta)[1]
        gradients: tuple[Tensor, Tensor] = pull_back(grad)
        return gradients

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None], scores: Tensor, zeta: Tensor
    ) -> tuple[Tensor, int]:
        scores, zeta = batch_first(info, in_dims, (scores, zeta))
        return fused_entmax(scores, zeta), 0
