r"""The convex potential whose gradient is entmax: log Z, deformed.

$$\Phi_\zeta(x) = \max_p \langle p, x \rangle + H_\zeta(p), \qquad
H_\zeta(p) = \sum_j \frac{p_j - p_j^{1+\zeta}}{\zeta (1 + \zeta)}, \qquad
\nabla \Phi_\zeta = p, \qquad \Phi_0 = \log Z.$$
"""

from typing import Any

import torch
from torch import Tensor

from gibbsian._typing import Mask, Scores
from gibbsian.normalizers.entmax import entmax, row_sparsity
from gibbsian.numerics.deformed import phi_1, phi_2
from gibbsian.numerics.masked import (
    check_finite,
    present_states,
    shifted_scores,
    working_dtype,
)


def potential(
    scores: Scores,
    zeta: float | Tensor,
    *,
    mask: Mask | None = None,
    dim: int = -1,
    validate: bool = False,
) -> Tensor:
    r"""$\Phi_\zeta$ of every row: minus its deformed free energy.

    The deformed free energy is $\min_p \langle E \rangle_p - H_\zeta(p)$. $\Phi_\zeta$ equals
    $(c + \zeta \langle x \rangle_p)/(1 + \zeta)$ with c the level of `entmax`.

    Args:
        scores: any shape; -inf marks an absent state.
        zeta: sparsity in [0, 1]; a number, or a tensor that broadcasts to `scores` with size 1 at
            `dim`.
        mask: True = present; broadcastable to `scores`. None = all.
        dim: dimension of the states.
        validate: raise on NaN or +inf scores and on a tensor of sparsities outside [0, 1].

    Returns:
        In the units of the scores, in their shape without `dim`, float32 or wider; $-\infty$ for a
        row with no state.

    Raises:
        ArgumentError: as `entmax`.

    Notes:
        The gradient in the scores is p itself, not a differentiated algorithm; the one in zeta is
        $\partial H_\zeta/\partial\zeta$ at fixed p (p is a maximiser). Both differentiate again.

    References:
        Blondel, Martins & Niculae 2020 (Fenchel-Young losses);
        docs/derivations/entmax.md#potential.
    """
    present = present_states(scores, mask, dim).movedim(dim, -1)
    rows = scores.movedim(dim, -1).to(working_dtype(scores))
    if rows.shape[-1] == 0:
        return rows.sum(dim=-1) - torch.inf
    sparsity = row_sparsity(zeta, rows, dim, scores.dim(), validate)
    if validate:
        check_finite(rows, present)
    rows = torch.where(present, rows, -torch.inf)
    value: Tensor = _Potential.apply(rows, sparsity, entmax(rows, sparsity))
    return value


class _Potential(torch.autograd.Function):
    """Given the maximiser, the value; its derivatives are functions of the maximiser."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, zeta: Tensor, probs: Tensor) -> Tensor:
        present = scores != -torch.inf
        shifted, maximum = shifted_scores(scores, present)
        # where p = 0 the score may be as low as the type allows
        energy = (probs * torch.where(probs > 0, shifted, 0.0)).sum(dim=-1)
        value = maximum.squeeze(-1) + energy + _tsallis_entropy(probs, zeta).squeeze(-1)
        return torch.where(present.any(dim=-1), value, -torch.inf)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        _, zeta, probs = inputs
        ctx.save_for_backward(probs, zeta)
        ctx.save_for_forward(probs, zeta)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        probs, zeta = ctx.saved_tensors
        grad = grad.unsqueeze(-1)
        return grad * probs, grad * _entropy_response(probs, zeta), None

    @staticmethod
    def jvp(ctx: Any, d_scores: Tensor | None, d_zeta: Tensor | None, _: Tensor | None) -> Tensor:
        probs, zeta = ctx.saved_tensors
        change = torch.zeros_like(zeta)
        if d_scores is not None:
            influence = torch.where(probs > 0, d_scores, 0.0)
            change = change + (probs * influence).sum(dim=-1, keepdim=True)
        if d_zeta is not None:
            change = change + _entropy_response(probs, zeta) * d_zeta
        return change.squeeze(-1)


def _log(probs: Tensor) -> Tensor:
    return torch.where(probs > 0, probs, 1.0).log()


def _tsallis_entropy(probs: Tensor, zeta: Tensor) -> Tensor:
    r"""$H_\zeta(p) = -\sum p \log_\zeta p / (1 + \zeta)$: terms of one sign, zeta = 0 included."""
    log_probs = _log(probs)
    surprisal = -log_probs * phi_1(zeta * log_probs)
    return (probs * surprisal).sum(dim=-1, keepdim=True) / (1 + zeta)


def _entropy_response(probs: Tensor, zeta: Tensor) -> Tensor:
    r"""The derivative of $H_\zeta$ in zeta at fixed p, again with terms of one sign.

    $$\frac{\partial H_\zeta}{\partial \zeta} = -\frac{1}{1 + \zeta} \left(H_\zeta +
    \sum_j p_j^{1+\zeta} L_j^2 \varphi_2(-\zeta L_j)\right), \qquad L_j = \log p_j$$
    """
    log_probs = _log(probs)
    z = zeta * log_probs
    curvature = probs * z.exp() * log_probs.square() * phi_2(-z)
    entropy = _tsallis_entropy(probs, zeta)
    return -(entropy + curvature.sum(dim=-1, keepdim=True)) / (1 + zeta)
