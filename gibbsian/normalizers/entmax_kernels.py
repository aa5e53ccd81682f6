r"""Entmax and its derivatives without a graph: in place, a few rows at a time.

The same equations as `gibbsian.normalizers.entmax`, arranged so that each state costs few
operations. With $y_j \le 0$ the scores relative to their maximum, $\lambda = \log p_{\max}$,
$u_j = y_j e^{-\zeta\lambda}$ and the base $b_j = [1 + \zeta u_j]_+$,

$$p_j = e^\lambda\, b_j^{1/\zeta}, \qquad
  s_j = p_j^{1-\zeta} = \frac{p_j}{b_j\, e^{\zeta\lambda}},$$

so that a Newton step takes one logarithm and one exponential a state. Softmax rows need no case of
their own: below $\zeta = 10^{-20}$ nothing changes in any digit.

Derivation: docs/derivations/aes.md#kernels.
"""

import math

import torch
from torch import Tensor

from gibbsian.normalizers.entmax_shared import MAX_STEPS, valid_sparsity
from gibbsian.numerics.row_chunks import chunk_rows, row_chunks

_SMALLEST_ZETA = 1e-20
_LOG2_E = math.log2(math.e)
_SERIES_EDGE = -0.1
"""Where the series of `_curvature` takes over from the closed form, which cancels towards 0."""


def entmax_forward(scores: Tensor, zeta: Tensor) -> Tensor:
    """Probabilities along the last dimension.

    Args:
        scores: (..., states); -inf marks an absent state.
        zeta: (..., 1), in [0, 1].

    Returns:
        Contiguous, shaped like `scores`; 0 in a row with no state.
    """
    rows, row_zeta = _as_rows(scores, zeta)
    probs = torch.empty_like(rows, memory_format=torch.contiguous_format)
    shifted = rows.new_empty((chunk_rows(rows), rows.shape[-1]))
    base = torch.empty_like(shifted)
    for part in row_chunks(rows):
        count = rows[part].shape[0]
        _shift(rows[part], out=shifted[:count])
        _solve(shifted[:count], row_zeta[part], probs[part], base[:count])
    return probs.view(scores.shape)


def entmax_backward(
    grad: Tensor, probs: Tensor, zeta: Tensor, scores: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    r"""Gradients in the scores and, where `scores` is given, in zeta.

    $$\bar x = s \odot (\bar p - \langle \bar p \rangle_q), \qquad
    \bar\zeta = -e^{\zeta\lambda} \sum_j s_j u_j (u_j F(\zeta u_j) + \lambda)
    (\bar p_j - \langle \bar p \rangle_q), \qquad
    F(t) = \frac{(1 + t)\log(1 + t) - t}{t^2}$$

    Args:
        grad: gradient of the probabilities, (..., states).
        probs: the probabilities.
        zeta: (..., 1).
        scores: what `entmax_forward` was given.
    """
    row_probs, row_zeta = _as_rows(probs, zeta)
    row_grad = grad.reshape(row_probs.shape)
    row_scores = None if scores is None else scores.reshape(row_probs.shape)
    grad_scores = torch.empty_like(row_probs)
    grad_zeta = None if scores is None else torch.zeros_like(row_zeta)
    bound = torch.finfo(probs.dtype).max
    tiny = torch.finfo(probs.dtype).tiny
    size = (chunk_rows(row_probs), row_probs.shape[-1])
    work = row_probs.new_empty(size)
    buffers = [row_probs.new_empty(size) for _ in range(2)] if scores is not None else []
    for part in row_chunks(row_probs):
        p, z = row_probs[part], row_zeta[part]
        count = p.shape[0]
        centred = grad_scores[part]
        response = work[:count]
        # p^(1 - zeta); the sign takes it to 0 off the support
        torch.clamp_min(p, tiny, out=response).log2_().mul_(1 - z).exp2_().mul_(p.sign())
        # a state off the support has no influence, even where the gradient given is infinite
        torch.clamp(row_grad[part], -bound, bound, out=centred)
        total = response.sum(dim=-1, keepdim=True).clamp_min_(tiny)
        centred.sub_(_dot(response, centred) / total)
        centred.mul_(response)
        if row_scores is not None and grad_zeta is not None:
            shifted, curvature = (buffer[:count] for buffer in buffers)
            _shift(row_scores[part], out=shifted)
            largest = p.amax(dim=-1, keepdim=True)
            log_max = largest.masked_fill_(largest == 0, 1.0).log_()
            argument = shifted.mul_((-z * log_max).exp())
            _curvature(torch.mul(argument, z, out=curvature), response)
            curvature.mul_(argument).add_(log_max).mul_(argument)
            grad_zeta[part] = -_dot(curvature, centred) * (z * log_max).exp()
    shaped_zeta = None if grad_zeta is None else grad_zeta.view(zeta.shape)
    return grad_scores.view(probs.shape), shaped_zeta


def _as_rows(states: Tensor, zeta: Tensor) -> tuple[Tensor, Tensor]:
    rows = states.reshape(math.prod(states.shape[:-1]), states.shape[-1])
    row_zeta = zeta.reshape(-1, 1)
    return rows, torch.where(
        valid_sparsity(row_zeta), row_zeta.clamp_min(_SMALLEST_ZETA), torch.nan
    )


def _shift(scores: Tensor, out: Tensor) -> None:
    """Scores relative to the maximum; finite also for absent states, whose weight underflows."""
    maximum = scores.amax(dim=-1, keepdim=True)
    maximum.masked_fill_(maximum == -torch.inf, 0.0)
    torch.sub(scores, maximum, out=out).clamp_min_(2 * math.log(torch.finfo(scores.dtype).tiny))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    # autocast would take it in half precision
    with torch.autocast(a.device.type, enabled=False):
        product: Tensor = torch.linalg.vecdot(a, b)
    return product.unsqueeze(-1)


def _solve(shifted: Tensor, zeta: Tensor, probs: Tensor, base: Tensor) -> None:
    """Newton's method on log_zeta of the total, from the left: monotone in exact arithmetic."""
    finfo = torch.finfo(shifted.dtype)
    tolerance = 4 * finfo.eps
    # convergence is quadratic: one step from here reaches the tolerance
    last_step = 0.1 * math.sqrt(finfo.eps)
    log_max = torch.zeros_like(zeta)
    for _ in range(MAX_STEPS):
        total = _ratios(shifted, zeta, log_max, probs, base)
        log_total = total.log() + log_max
        # a row that is NaN must not stop the others
        error = float(log_total.nan_to_num(nan=0.0).amax())
        if not error > tolerance:
            break
        escort = torch.div(probs, base.add_(1.0).clamp_min_(finfo.tiny), out=base)
        slope = ((1 - zeta) * log_total - log_max).exp() / escort.sum(dim=-1, keepdim=True)
        step = -torch.expm1(zeta * log_total) * slope
        updated = log_max + step.clamp_min_(finfo.eps - 1).log1p_() / zeta
        going = (log_total > tolerance) & (updated < log_max)
        log_max = torch.where(going, updated, log_max)
        if error < last_step:
            total = _ratios(shifted, zeta, log_max, probs, base)
            break
    # a row with no state has total 0 and ratios 0
    probs.div_(total.clamp_min_(finfo.tiny))


def _ratios(shifted: Tensor, zeta: Tensor, log_max: Tensor, ratios: Tensor, base: Tensor) -> Tensor:
    """Writes p / p_max to `ratios` and b - 1 to `base`; returns the ratios' sum."""
    torch.mul(shifted, zeta * (-zeta * log_max).exp(), out=base).clamp_min_(-1.0)
    torch.log1p(base, out=ratios).mul_(_LOG2_E / zeta).exp2_()
    return ratios.sum(dim=-1, keepdim=True)


def _curvature(t: Tensor, work: Tensor) -> None:
    """Overwrites t <= 0 with F(t), between 1/2 at 0 and 1 at -1 and below; destroys `work`.

    Both forms are evaluated everywhere, each held at the edge outside its own range: a branch would
    cost more than the arithmetic.
    """
    terms = 6 if t.dtype == torch.float32 else 15
    edge = _SERIES_EDGE
    at_edge = ((1 + edge) * math.log1p(edge) - edge) / edge**2
    series = torch.clamp_min(t, edge, out=work).neg_()
    near = series.clone()
    series.mul_(1 / (terms * (terms + 1)))
    for k in range(terms - 1, 1, -1):
        series.add_(1 / (k * (k + 1))).mul_(near)
    series.add_(0.5 - at_edge)
    t.clamp_(-1 + torch.finfo(t.dtype).eps, edge)
    torch.log1p(t, out=near).mul_(t + 1).sub_(t)
    torch.div(near, t.square_(), out=t).add_(series)
