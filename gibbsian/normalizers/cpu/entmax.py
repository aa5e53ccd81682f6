r"""`entmax` along the last dimension, one thread a block of rows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.normalizers.cpu.row import (
    SOFTMAX_ZETA,
    candidate_window,
    list_candidates,
    log_max_prob,
    row_gradient,
    softmax_in_place,
    valid_zeta,
    write_probs,
)
from gibbsian.normalizers.fused import fused_entmax
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.simd import KEY_BLOCK
from gibbsian.numerics.cpu.threads import num_workers, run
from gibbsian.statistics.cpu.row import row_maximum

_STATES_A_TASK = 1 << 16


@kernel
def _forward(
    task: int,
    worker: int,
    rows_a_task: int,
    scores: Any,
    zetas: Any,
    probs: Any,
    log_maxima: Any,
    scratch: Any,
    positions: Any,
) -> None:
    count, states = scores.shape
    row, levels, weights = scratch[worker, 0], scratch[worker, 1], scratch[worker, 2]
    for i in range(task * rows_a_task, min(count, (task + 1) * rows_a_task)):
        row[:states] = scores[i]
        row[states:] = np.float32(-np.inf)
        log_maxima[i] = row_entmax(row, zetas[i], levels, weights, positions[worker], probs[i])


@kernel
def row_entmax(row: Any, zeta: float, levels: Any, weights: Any, positions: Any, probs: Any) -> Any:
    """Writes the probabilities of one row, returns the largest log-probability.

    Args:
        row: scores, padded with -inf to a multiple of `KEY_BLOCK`; lost.
        zeta: sparsity.
        levels: scratch, as long.
        weights: the same.
        positions: the same, of integers.
        probs: receives the probabilities; as many are written as it is long.
    """
    padded, states = row.shape[0], probs.shape[0]
    valid = valid_zeta(zeta)
    zeta = max(zeta, np.float32(0))
    largest = row_maximum(row, padded)
    if largest == np.float32(-np.inf):
        probs[:] = np.float32(0)
        return np.float32(0)
    if not (largest < np.float32(np.inf) and valid):
        probs[:] = np.float32(np.nan)
        return np.float32(np.nan)
    if zeta < SOFTMAX_ZETA:
        _, log_max = softmax_in_place(row, padded, largest)
        probs[:] = row[:states]
        return log_max
    window = candidate_window(zeta, np.float32(0))
    found = list_candidates(row, padded, largest, window, levels, positions)
    found, log_max = log_max_prob(levels, positions, found, zeta)
    write_probs(levels, found, zeta, log_max, weights)
    probs[:] = np.float32(0)
    for c in range(found):
        probs[positions[c]] = weights[c]
    return log_max


@kernel
def _backward(
    task: int,
    worker: int,
    rows_a_task: int,
    scores: Any,
    zetas: Any,
    probs: Any,
    log_maxima: Any,
    upstream: Any,
    grad_scores: Any,
    grad_zeta: Any,
    scratch: Any,
    positions: Any,
    needs_zeta: bool,
) -> None:
    count, states = scores.shape
    levels, weights, gradient = scratch[worker, 0], scratch[worker, 1], scratch[worker, 2]
    for i in range(task * rows_a_task, min(count, (task + 1) * rows_a_task)):
        largest = row_maximum(scores[i], states)
        found = 0
        for j in range(states):
            found += 1 if probs[i, j] > np.float32(0) else 0
        if 2 * found > states:
            for j in range(states):
                levels[j] = scores[i, j] - largest
            grad_scores[i] = upstream[i]
            grad_zeta[i] = row_gradient(
                levels, probs[i], grad_scores[i], states, zetas[i], log_maxima[i], needs_zeta
            )
        else:
            found = 0
            for j in range(states):
                p = probs[i, j]
                levels[found] = scores[i, j] - largest
                weights[found] = p
                gradient[found] = upstream[i, j]
                positions[worker, found] = j
                found += 1 if p > np.float32(0) else 0
            grad_zeta[i] = row_gradient(
                levels, weights, gradient, found, zetas[i], log_maxima[i], needs_zeta
            )
            grad_scores[i] = np.float32(0)
            for c in range(found):
                grad_scores[i, positions[worker, c]] = gradient[c]


@torch.library.custom_op("gibbsian::entmax_rows", mutates_args=())
def entmax_rows(scores: Tensor, zeta: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and largest log-probability of each row; float32 and contiguous.

    Notes:
        Differentiable in both arguments, through the probabilities; a second derivative costs what
        `fused_entmax` does.
    """
    count, states = scores.shape
    probs, log_maxima = torch.empty_like(scores), torch.empty_like(zeta)
    tasks, rows_a_task = _tasks(count, states)
    padded = -(-states // KEY_BLOCK) * KEY_BLOCK
    workers = num_workers(tasks)
    run(
        _forward,
        tasks,
        rows_a_task,
        scores.numpy(),
        zeta.numpy(),
        probs.numpy(),
        log_maxima.numpy(),
        np.empty((workers, 3, padded), np.float32),
        np.empty((workers, padded), np.int32),
    )
    return probs, log_maxima


@entmax_rows.register_fake
def _(scores: Tensor, zeta: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(scores), torch.empty_like(zeta)


@torch.library.custom_op("gibbsian::entmax_rows_backward", mutates_args=())
def _entmax_rows_backward(
    upstream: Tensor,
    scores: Tensor,
    zeta: Tensor,
    probs: Tensor,
    log_maxima: Tensor,
    needs_zeta: bool,
) -> tuple[Tensor, Tensor]:
    count, states = scores.shape
    grad_scores, grad_zeta = torch.empty_like(scores), torch.empty_like(zeta)
    tasks, rows_a_task = _tasks(count, states)
    workers = num_workers(tasks)
    run(
        _backward,
        tasks,
        rows_a_task,
        *(tensor.numpy() for tensor in (scores, zeta, probs, log_maxima, upstream.contiguous())),
        grad_scores.numpy(),
        grad_zeta.numpy(),
        np.empty((workers, 3, states), np.float32),
        np.empty((workers, states), np.int32),
        needs_zeta,
    )
    return grad_scores, grad_zeta


@_entmax_rows_backward.register_fake
def _(
    upstream: Tensor,
    scores: Tensor,
    zeta: Tensor,
    probs: Tensor,
    log_maxima: Tensor,
    needs_zeta: bool,
) -> tuple[Tensor, Tensor]:
    del upstream, probs, log_maxima, needs_zeta
    return torch.empty_like(scores), torch.empty_like(zeta)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, *output)


def _differentiate(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    if torch.is_grad_enabled():
        # to be differentiated again: the same in plain operations
        scores, zeta = ctx.saved_tensors[:2]
        pull_back = torch.func.vjp(lambda x, z: fused_entmax(x, z.unsqueeze(-1)), scores, zeta)[1]
        plain: tuple[Tensor, ...] = pull_back(upstream)
        return plain
    gradients: tuple[Tensor, Tensor] = _entmax_rows_backward(
        upstream, *ctx.saved_tensors, ctx.needs_input_grad[1]
    )
    return gradients


entmax_rows.register_autograd(_differentiate, setup_context=_save)


def _tasks(rows: int, states: int) -> tuple[int, int]:
    rows_a_task = max(1, _STATES_A_TASK // max(1, states))
    return -(-rows // rows_a_task), rows_a_task
