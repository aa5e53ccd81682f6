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

from gibbsian._dispatch import Backend, runs_on_cpu_kernels
from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask, Scores
from gibbsian.normalizers.entmax_shared import MAX_STEPS, batch_first, valid_sparsity
from gibbsian.numerics.deformed import (
    deformed_log_of_exp,
    log1p_ratio,
    log_of_deformed_exp,
    phi_1,
    phi_2,
)
from gibbsian.numerics.masked import (
    check_dim,
    check_finite,
    present_states,
    shifted_scores,
    working_dtype,
)
from gibbsian.numerics.summation import row_sum


def entmax(
    scores: Scores,
    zeta: float | Tensor,
    *,
    mask: Mask | None = None,
    dim: int = -1,
    validate: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    r"""Probabilities $p_j = \exp_\zeta(x_j - c)$ that sum to 1 along `dim`.

    Args:
        scores: any shape; -inf marks an absent state.
        zeta: sparsity in [0, 1], i.e. entmax's alpha - 1; a number, or a tensor that broadcasts to
            `scores` with size 1 at `dim`: rows of different sparsity mix freely in one call.
        mask: True = present; broadcastable to `scores`. None = all.
        dim: dimension of the states.
        validate: raise on NaN or +inf scores and on a tensor of sparsities outside [0, 1]; costs a
            device sync. Otherwise they turn their own row into NaN (zeta by more than rounding).
        backend: "auto", "reference" (plain torch) or "cpu" (compiled kernels); see
            docs/usage/backends.md.

    Returns:
        Tensor like `scores` (same shape, dtype and device), exactly 0 off the support; all 0 in a
        row with no state.

    Raises:
        ArgumentError: zeta outside [0, 1] or not broadcastable, scores not floating-point, a mask
            that does not fit.
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        Differentiable in `scores` and in `zeta` (the limit zeta -> 0 included), to second order;
        works under `torch.func.vmap` (by the reference). Half precision is computed in float32.
        In float32 no probability is off by more than 1e-6, whatever the row.
        Time O(states) a Newton step, 2 to 14 steps; the backward pass is O(states) and keeps the
        result, and the scores too where zeta needs a gradient or the CPU kernels run.

    References:
        Peters, Niculae & Martins 2019 (entmax); Correia, Niculae & Martins 2019 (gradient in
        alpha). Gradients: docs/derivations/entmax.md#gradients.
    """
    dtype = working_dtype(scores)
    check_dim(scores, dim)
    if scores.shape[dim] == 0:
        return scores.clone()
    rows = scores.movedim(dim, -1).to(dtype)
    if mask is not None or validate:
        present = present_states(scores, mask, dim).movedim(dim, -1)
        if validate:
            check_finite(rows, present)
        rows = torch.where(present, rows, -torch.inf)
    zeta = row_sparsity(zeta, rows, dim, scores.dim(), validate)
    probs: Tensor
    if runs_on_cpu_kernels(backend, scores, zeta):
        # numba takes half a second to import: only where it is used
        from gibbsian.normalizers.cpu.entmax import entmax_rows  # noqa: PLC0415

        flat = rows.reshape(-1, rows.shape[-1]).contiguous()
        probs = entmax_rows(flat, zeta.reshape(-1).contiguous())[0].view(rows.shape)
    else:
        probs = _Entmax.apply(rows, zeta)
    return probs.to(scores.dtype).movedim(-1, dim)


def row_sparsity(zeta: float | Tensor, rows: Tensor, dim: int, dims: int, validate: bool) -> Tensor:
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
    for _ in range(MAX_STEPS):
        log_probs = log_max + _relative_log_probs(shifted, zeta, log_max)
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


def _relative_log_probs(shifted: Tensor, zeta: Tensor, log_max: Tensor) -> Tensor:
    return log_of_deformed_exp(shifted * (-zeta * log_max).exp(), zeta)


class _Entmax(torch.autograd.Function):
    """Rows along the last dimension; absent states are -inf."""

    @staticmethod
    def forward(scores: Tensor, zeta: Tensor) -> Tensor:
        present = scores != -torch.inf
        shifted, _ = shifted_scores(scores, present)
        log_max = solve_log_max_prob(shifted, zeta, present)
        relative = _relative_log_probs(shifted, zeta, log_max)
        probs = torch.where(present, relative.exp() * log_max.exp(), 0.0)
        # What the rounding of lambda leaves of sum(p) - 1 is a shift of c: one last Newton step,
        # taken in p itself, where it is not rounded again. A division by the sum would instead
        # move weight from the large p_j to the many small ones of a row with a long flat tail.
        _, escort = _response(probs, zeta)
        excess = torch.where(valid_sparsity(zeta), row_sum(probs) - 1, torch.nan)
        return (probs - escort * excess).clamp_min(0.0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        scores, zeta = inputs
        # the derivative in the scores needs only the result, a third of the memory
        ctx.save_for_backward(output, zeta, scores if ctx.needs_input_grad[1] else None)
        ctx.save_for_forward(output, zeta, scores)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        probs, zeta, scores = ctx.saved_tensors
        response, escort = _response(probs, zeta)
        # a state off the support has no influence, even where the gradient given is infinite
        grad = torch.where(probs > 0, grad, 0.0)
        # the Jacobian in the scores is symmetric: response (delta - escort)
        centred = grad - (escort * grad).sum(dim=-1, keepdim=True)
        grad_scores = response * centred if ctx.needs_input_grad[0] else None
        grad_zeta = None
        if ctx.needs_input_grad[1]:
            drift = _drift(scores, zeta, probs)
            grad_zeta = (drift * centred).sum(dim=-1, keepdim=True)
        return grad_scores, grad_zeta

    @staticmethod
    def jvp(ctx: Any, d_scores: Tensor | None, d_zeta: Tensor | None) -> Tensor:
        probs, zeta, scores = ctx.saved_tensors
        response, escort = _response(probs, zeta)
        change = torch.zeros_like(probs)
        if d_scores is not None:
            change = change + response * torch.where(probs > 0, d_scores, 0.0)
        if d_zeta is not None:
            change = change + _drift(scores, zeta, probs) * d_zeta
        return change - escort * change.sum(dim=-1, keepdim=True)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, int | None], scores: Tensor, zeta: Tensor
    ) -> tuple[Tensor, int]:
        probs: Tensor = _Entmax.apply(*batch_first(info, in_dims, (scores, zeta)))
        return probs, 0


def _response(probs: Tensor, zeta: Tensor) -> tuple[Tensor, Tensor]:
    r"""Linear response of a row to its scores, from its probabilities alone.

    Returns:
        response: $s_j = p_j^{1-\zeta}$ on the support, 0 off it.
        escort: $q = s / \sum s$, the gradient of the level c.
    """
    support = probs > 0
    log_probs = torch.where(support, probs, 1.0).log()
    response = torch.where(support, ((1 - zeta) * log_probs).exp(), 0.0)
    total = response.sum(dim=-1, keepdim=True)
    return response, response / torch.where(total > 0, total, 1.0)


def _drift(scores: Tensor, zeta: Tensor, probs: Tensor) -> Tensor:
    r"""Change of every probability with zeta while the largest one is held.

    $$h_j = -p_j r_j \left(r_j \varphi_2(-\zeta r_j) + \lambda \varphi_1(-\zeta r_j)\right), \qquad
    r_j = \log(p_j/p_{\max}), \quad \lambda = \log p_{\max}$$

    It vanishes where p is uniform and cancels nowhere, zeta = 0 included. The change of the
    normalised p is $h - q \sum h$. The ratios r come from the scores, since rounded probabilities
    have lost them in a nearly uniform row; but near the edge of the support, where the deformed
    exponential cancels, from the probabilities.
    """
    support = probs > 0
    log_probs = torch.where(support, probs, 1.0).log()
    shifted, _ = shifted_scores(scores, support)
    largest = probs.amax(dim=-1, keepdim=True)
    log_max = torch.where(largest > 0, largest, 1.0).log()
    argument = shifted * (-zeta * log_max).exp()
    inner = zeta * argument > -0.5
    argument = torch.where(inner, argument, 0.0)
    from_scores = argument * log1p_ratio(zeta * argument)
    relative = torch.where(inner, from_scores, torch.where(support, log_probs - log_max, 0.0))
    z = -zeta * relative
    return -probs * relative * (relative * phi_2(z) + log_max * phi_1(z))
