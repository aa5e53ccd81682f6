r"""`gibbs_statistics` for the many rows of an attention: the same numbers, several times faster.

The gradient of every statistic is a polynomial in the deviation $\ell_j = \log p_j + S$, weighted
by $p_j$:

$$\frac{\partial S}{\partial x_j} = -p_j \ell_j, \qquad
  \frac{\partial V}{\partial x_j} = p_j (\ell_j^2 + 2 \ell_j - V), \qquad
  \frac{\partial \kappa_3}{\partial x_j}
    = p_j (\ell_j^3 + 3 \ell_j^2 - 3 V \ell_j - 3 V - \kappa_3),$$

so the backward pass keeps the scores and one number a row, where autograd would keep ten tensors
of their size. Derivation: docs/derivations/aes.md#gradients.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.numerics.row_chunks import chunk_rows, row_chunks
from gibbsian.statistics.gibbs import GibbsStatistics, gibbs_statistics

_LOG2_E = math.log2(math.e)
_MOMENTS = (
    "max_score",
    "min_entropy",
    "collision_entropy",
    "entropy",
    "varentropy",
    "third_cumulant",
)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it untyped
def fused_gibbs_statistics(scores: Float[Tensor, "*batch states"]) -> GibbsStatistics:
    """`gibbs_statistics(scores)` along the last dimension, in place a few rows at a time.

    Args:
        scores: float32 or wider; -inf marks an absent state.

    Notes:
        Differentiable to any order (the second and further ones at the cost of
        `gibbs_statistics`); works under `torch.func.vmap`, not in forward mode. Inside
        `torch.compile` it runs as it is: it works in place.
    """
    *moments, num_states = _FusedStatistics.apply(scores)
    return GibbsStatistics(
        **dict(zip(_MOMENTS, moments, strict=True)),
        num_states=num_states,
        temperature=torch.ones_like(num_states),
    )


class _FusedStatistics(torch.autograd.Function):
    @staticmethod
    def forward(scores: Tensor) -> tuple[Tensor, ...]:
        rows = _as_rows(scores)
        results = rows.new_zeros((len(_MOMENTS) + 1, rows.shape[0]))
        results[0] = -torch.inf
        size = (chunk_rows(rows), rows.shape[1])
        shifted, probs, work = (rows.new_empty(size) for _ in range(3))
        # autocast would take the dot products in half precision
        with torch.autocast(rows.device.type, enabled=False):
            for part in row_chunks(rows):
                count = rows[part].shape[0]
                workspace = (shifted[:count], probs[:count], work[:count])
                _moments(rows[part], results[:, part], workspace)
        return tuple(result.view(scores.shape[:-1]) for result in results.unbind())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[-1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *output[:-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        scores, *moments = ctx.saved_tensors
        given = grads[: len(_MOMENTS)]
        if all(grad is None for grad in given):
            return None
        filled = [
            torch.zeros_like(moment) if grad is None else grad
            for grad, moment in zip(given, moments, strict=True)
        ]
        if torch.is_grad_enabled():
            # to be differentiated again: the same in plain operations
            pull_back = torch.func.vjp(_plain, scores)[1]
            gradient: Tensor = pull_back(tuple(filled))[0]
            return gradient
        used = [grad is not None for grad in given]
        return _gradient(scores, moments, filled, ties=used[0] or used[1], collisions=used[2])

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None], scores: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        del info  # the only argument is the batched one
        (in_dim,) = in_dims
        batched = scores if in_dim is None else scores.movedim(in_dim, 0)
        outputs: tuple[Tensor, ...] = _FusedStatistics.apply(batched)
        return outputs, (0,) * len(outputs)


def _as_rows(scores: Tensor) -> Tensor:
    return scores.reshape(math.prod(scores.shape[:-1]), scores.shape[-1])


def _plain(scores: Tensor) -> tuple[Tensor, ...]:
    statistics = gibbs_statistics(scores)
    return tuple(getattr(statistics, name) for name in _MOMENTS)


def _shift(scores: Tensor, maximum: Tensor, out: Tensor) -> Tensor:
    """Scores relative to `maximum`; finite also for absent states, whose weight underflows."""
    level = maximum.unsqueeze(-1).masked_fill(maximum.unsqueeze(-1) == -torch.inf, 0.0)
    lowest = 2 * math.log(torch.finfo(scores.dtype).tiny)
    return torch.sub(scores, level, out=out).clamp_min_(lowest)


def _moments(scores: Tensor, results: Tensor, workspace: tuple[Tensor, Tensor, Tensor]) -> None:
    """Writes the moments of a chunk to the rows of `results`."""
    shifted, probs, work = workspace
    maximum = scores.amax(dim=-1)
    _shift(scores, maximum, out=shifted)
    torch.mul(shifted, _LOG2_E, out=probs).exp2_()
    total = probs.sum(dim=-1)
    num_states = torch.ne(scores, -torch.inf, out=work).sum(dim=-1)
    occupied = num_states > 0
    total = torch.where(occupied, total, 1.0)
    probs.div_(total.unsqueeze(-1))
    excess = -torch.linalg.vecdot(probs, shifted)
    collisions = torch.where(occupied, torch.linalg.vecdot(probs, probs), 1.0)
    deviation = shifted.add_(excess.unsqueeze(-1))
    squares = torch.mul(probs, deviation, out=work).mul_(deviation)
    results[0] = maximum
    results[1] = total.log()
    results[2] = -collisions.log()
    results[3] = results[1] + excess
    results[4] = squares.sum(dim=-1)
    results[5] = torch.linalg.vecdot(squares, deviation)
    results[6] = num_states


def _gradient(
    scores: Tensor,
    moments: list[Tensor],
    grads: list[Tensor],
    *,
    ties: bool,
    collisions: bool,
) -> Tensor:
    """The module's equations; `ties` and `collisions`: whether the other statistics have any."""
    rows = _as_rows(scores)
    out = torch.empty_like(rows)
    maximum, log_total, h2, entropy, v, k3 = (m.reshape(-1) for m in moments)
    g_max, g_min, g_h2, g_s, g_v, g_k = (g.reshape(-1, 1) for g in grads)
    v, k3 = v.unsqueeze(-1), k3.unsqueeze(-1)
    coefficients = (
        g_min + 2 * g_h2 - g_v * v - g_k * (k3 + 3 * v),
        2 * g_v - g_s - 3 * g_k * v,
        g_v + 3 * g_k,
    )
    work = rows.new_empty((chunk_rows(rows), rows.shape[1]))
    for part in row_chunks(rows):
        shifted = _shift(rows[part], maximum[part], out=work[: rows[part].shape[0]])
        shifted.sub_(log_total[part].unsqueeze(-1))
        probs = torch.mul(shifted, _LOG2_E).exp2_()
        deviation = shifted.add_(entropy[part].unsqueeze(-1))
        gradient = torch.mul(deviation, g_k[part], out=out[part])
        for coefficient in reversed(coefficients[1:]):
            gradient.add_(coefficient[part]).mul_(deviation)
        gradient.add_(coefficients[0][part])
        if collisions:
            weight = 2 * g_h2[part] * h2[part].exp().unsqueeze(-1)
            gradient.sub_(weight * probs)
        gradient.mul_(probs)
        if ties:
            largest = (rows[part] == maximum[part].unsqueeze(-1)) & (rows[part] > -torch.inf)
            share = largest.to(probs) / largest.sum(dim=-1, keepdim=True).clamp_min(1)
            gradient.add_(share * (g_max - g_min)[part])
    return out.view(scores.shape)
