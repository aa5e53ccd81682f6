r"""Entmax with a sparsity of its own for every row: softmax (0), sparsemax (1), all between.

$$p_j = \exp_\zeta(x_j - c), \qquad \sum_j p_j = 1, \qquad \zeta = \alpha - 1 \in [0, 1].$$

Two rewritings make one piece of code accurate over the whole range (derivations:
docs/derivations/entmax.md):

- the level c is carried as the largest log-probability $\lambda = \log p_{\max}$. With scores
  $y_j \le 0$ relative to their maximum, $p_j = e^\lambda \exp_\zeta(y_j e^{-\zeta\lambda})$, which
  keeps every digit both at $\zeta = 10^{-8}$, where c - 1/zeta overflows the mantissa, and at
  $\zeta = 1$ on $10^5$ states, where 1 - c does;
- Newton's method runs on $\log_\zeta \sum_j p_j$, which is convex in c (it is a $1/\zeta$-norm), so
  it converges monotonically, and at once for softmax rows and for uniform rows.
"""

from typing import Any

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask, Scores
from gibbsian.numerics.deformed import deformed_log_of_exp, log_of_deformed_exp, phi_1, phi_2
from gibbsian.numerics.masked import (
    check_finite,
    present_states,
    shifted_scores,
    working_dtype,
)

_MAX_STEPS = 60
"""Bound on Newton steps; a handful are taken (docs/derivations/entmax.md#convergence)."""


def entmax(
    scores: Scores,
    zeta: float | Tensor,
    *,
    mask: Mask | None = None,
    dim: int = -1,
    validate: bool = False,
) -> Tensor:
    r"""Probabilities $p_j = \exp_\zeta(x_j - c)$ that sum to 1 along `dim`.

    Args:
        scores: any shape; -inf marks an absent state.
        zeta: sparsity in [0, 1], i.e. entmax's alpha - 1; a number, or a tensor that broadcasts to
            `scores` with size 1 at `dim`: rows of different sparsity mix freely in one call.
        mask: True = present; broadcastable to `scores`. None = all.
        dim: dimension of the states.
        validate: raise on NaN or +inf scores and on a tensor of sparsities outside [0, 1]; costs a
            device sync. Otherwise they turn their own row into NaN.

    Returns:
        Tensor like `scores` (same shape, dtype and device), exactly 0 off the support; all 0 in a
        row with no state.

    Raises:
        ArgumentError: zeta outside [0, 1] or not broadcastable, scores not floating-point, a mask
            that does not fit.

    Notes:
        Differentiable in `scores` and in `zeta` (the limit zeta -> 0 included), to second order;
        works under `torch.func.vmap`. Half precision is computed in float32.
        Time O(states) a Newton step, about 5 steps; the backward pass is O(states) and saves only
        the result.

    References:
        Peters, Niculae & Martins 2019 (entmax); Correia, Niculae & Martins 2019 (gradient in
        alpha). Gradients: docs/derivations/entmax.md#gradients.
    """
    dtype = working_dtype(scores)
    present = present_states(scores, mask, dim).movedim(dim, -1)
    rows = scores.movedim(dim, -1).to(dtype)
    zeta = _row_sparsity(zeta, rows, dim, scores.dim(), validate)
    if validate:
        check_finite(rows, present)
    probs: Tensor = _Entmax.apply(torch.where(present, rows, -torch.inf), zeta)
    return probs.to(scores.dtype).movedim(-1, dim)


def _row_sparsity(
    zeta: float | Tensor, rows: Tensor, dim: int, dims: int, validate: bool
) -> Tensor:
    """Sparsity of every row with the states' dimension last and of size 1, checked."""
    if not isinstance(zeta, Tensor):
        if not 0.0 <= zeta <= 1.0:
            raise ArgumentError(
                f"`zeta` must lie in [0, 1] (alpha in [1, 2]), got {zeta}. "
                "0 is softmax, 1 is sparsemax."
            )
        return rows.new_full((*rows.shape[:-1], 1), zeta)
    if validate and not bool(((zeta >= 0) & (zeta <= 1)).all()):
        raise ArgumentError(
            f"`zeta` must lie in [0, 1] (alpha in [1, 2]), got values from {float(zeta.min())} "
            f"to {float(zeta.max())}. Clamp it: `zeta.clamp(0, 1)`."
        )
    aligned = zeta.reshape((1,) * (dims - zeta.dim()) + tuple(zeta.shape))
    if aligned.dim() == dims and aligned.shape[dim] == 1:
        aligned = aligned.movedim(dim, -1)
        try:
            return aligned.to(rows).expand((*rows.shape[:-1], 1))
        except RuntimeError:
            pass  # reported below, in the caller's layout
    raise ArgumentError(
        f"`zeta` must broadcast to `scores` with size 1 at dim={dim}, got shape "
        f"{tuple(zeta.shape)} for {dims}-dimensional scores. Use `zeta.unsqueeze({dim})`."
    )


def solve_log_max_prob(shifted: Tensor, zeta: Tensor, present: Tensor) -> Tensor:
    r"""The largest log-probability $\lambda$ of each row, by Newton's method.

    Args:
        shifted: (..., states), scores minus their row's maximum (<= 0).
        zeta: (..., 1).
        present: (..., states) boolean.

    Returns:
        (..., 1), in $[-\log n, 0]$.
    """
    log_max = torch.zeros_like(zeta)
    tolerance = 4 * torch.finfo(shifted.dtype).eps
    for _ in range(_MAX_STEPS):
        log_probs = _log_probs(shifted, zeta, log_max)
        probs = torch.where(present, log_probs.exp(), 0.0)
        escort = torch.where(probs > 0, ((1 - zeta) * log_probs).exp(), 0.0)
        log_total = probs.sum(dim=-1, keepdim=True).log()
        # Newton step in c on log_zeta(total), whose slope is -total^(zeta - 1) * sum of escorts
        slope = ((1 - zeta) * log_total).exp() / escort.sum(dim=-1, keepdim=True)
        step = deformed_log_of_exp(log_total, zeta) * slope
        # c -> c + step, in the variable lambda = log exp_zeta(-c)
        relative = -step * (-zeta * log_max).exp()
        updated = log_max + log_of_deformed_exp(relative, zeta)
        # from the left the total never falls below 1 and lambda only decreases, but for rounding
        going = (log_total > tolerance) & (updated < log_max)
        if not bool(going.any()):
            break
        log_max = torch.where(going, updated, log_max)
    return log_max


def _log_probs(shifted: Tensor, zeta: Tensor, log_max: Tensor) -> Tensor:
    return log_max + log_of_deformed_exp(shifted * (-zeta * log_max).exp(), zeta)


class _Entmax(torch.autograd.Function):
    """Rows along the last dimension; absent states are -inf. Derivatives need only the result."""

    @staticmethod
    def forward(scores: Tensor, zeta: Tensor) -> Tensor:
        present = scores != -torch.inf
        shifted, _ = shifted_scores(scores, present)
        log_max = solve_log_max_prob(shifted, zeta, present)
        probs = torch.where(present, _log_probs(shifted, zeta, log_max).exp(), 0.0)
        occupied = present.any(dim=-1, keepdim=True)
        return probs / torch.where(occupied, probs.sum(dim=-1, keepdim=True), 1.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output, inputs[1])
        ctx.save_for_forward(output, inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        probs, zeta = ctx.saved_tensors
        response, escort, drift = _response(probs, zeta)
        # the Jacobian in the scores is symmetric: response (delta - escort)
        centred = grad - (escort * grad).sum(dim=-1, keepdim=True)
        grad_scores = response * centred if ctx.needs_input_grad[0] else None
        grad_zeta = None
        if ctx.needs_input_grad[1]:
            grad_zeta = (drift * centred).sum(dim=-1, keepdim=True)
        return grad_scores, grad_zeta

    @staticmethod
    def jvp(ctx: Any, d_scores: Tensor | None, d_zeta: Tensor | None) -> Tensor:
        probs, zeta = ctx.saved_tensors
        response, escort, drift = _response(probs, zeta)
        change = torch.zeros_like(probs)
        if d_scores is not None:
            change = change + response * torch.where(response > 0, d_scores, 0.0)
        if d_zeta is not None:
            change = change + drift * d_zeta
        return change - escort * change.sum(dim=-1, keepdim=True)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None], scores: Tensor, zeta: Tensor
    ) -> tuple[Tensor, int]:
        def batched(tensor: Tensor, in_dim: int | None) -> Tensor:
            if in_dim is None:
                return tensor.expand(info.batch_size, *tensor.shape)
            return tensor.movedim(in_dim, 0)

        probs: Tensor = _Entmax.apply(batched(scores, in_dims[0]), batched(zeta, in_dims[1]))
        return probs, 0


def _response(probs: Tensor, zeta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Linear response of a row, from its probabilities alone.

    Returns:
        response: $s_j = p_j^{1-\zeta}$ on the support, 0 off it.
        escort: $q = s / \sum s$, the gradient of the level c.
        drift: change of $p_j$ with zeta at a fixed largest probability,
            $-p_j r_j (r_j \varphi_2(-\zeta r_j) + \lambda \varphi_1(-\zeta r_j))$ with
            $r_j = \log(p_j/p_{\max})$ and $\lambda = \log p_{\max}$: it vanishes where p is
            uniform and cancels nowhere, zeta = 0 included. The change of the normalised p is
            drift - escort * sum(drift).
    """
    support = probs > 0
    log_probs = torch.where(support, probs, 1.0).log()
    response = torch.where(support, ((1 - zeta) * log_probs).exp(), 0.0)
    total = response.sum(dim=-1, keepdim=True)
    escort = response / torch.where(total > 0, total, 1.0)
    log_max = torch.where(support, log_probs, -torch.inf).amax(dim=-1, keepdim=True)
    relative = torch.where(support, log_probs - log_max, 0.0)
    z = -zeta * relative
    drift = -probs * relative * (relative * phi_2(z) + log_max * phi_1(z))
    return response, escort, drift
