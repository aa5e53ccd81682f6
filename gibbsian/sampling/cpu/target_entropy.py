"""The temperature of a target entropy in compiled code: the steps of `filters.target_entropy`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.numerics.cpu.jit import exact, kernel
from gibbsian.numerics.cpu.threads import num_workers, run
from gibbsian.statistics.cpu.row import NUM_MOMENTS, row_maximum, row_moments

_STATES_A_TASK = 1 << 14
"""A row is read several times."""


def temperatures_of_rows(
    rows: Tensor, target: Tensor, low: float, high: float, most_steps: int, tolerance: float
) -> Tensor:
    """Temperatures (rows,) of contiguous float32 rows (rows, states).

    Args:
        rows: logits.
        target: float32 (rows,), nats.
        low: logarithm of the smallest temperature.
        high: of the largest.
        most_steps: how often a row is read at most.
        tolerance: how near the entropy comes to the target, nats.
    """
    count, states = rows.shape
    temperatures = np.empty(count, np.float32)
    rows_a_task = max(1, _STATES_A_TASK // states)
    tasks = -(-count // rows_a_task)
    workers = num_workers(tasks)
    arguments = (
        rows.numpy(),
        target.contiguous().numpy(),
        np.float32(low),
        np.float32(high),
        most_steps,
        np.float32(tolerance),
        np.empty((workers, states), np.float32),
        np.empty((workers, NUM_MOMENTS), np.float32),
        temperatures,
    )
    if workers > 1:
        run(_rows_of_task, tasks, rows_a_task, *arguments)
    else:
        _rows_of_task(0, 0, count, *arguments)
    return torch.from_numpy(temperatures)


@kernel
def _rows_of_task(
    task: int,
    worker: int,
    rows_a_task: int,
    rows: Any,
    targets: Any,
    coldest: float,
    hottest: float,
    most_steps: int,
    tolerance: float,
    tempered: Any,
    moments: Any,
    temperatures: Any,
) -> None:
    count = rows.shape[0]
    for i in range(task * rows_a_task, min(count, (task + 1) * rows_a_task)):
        temperatures[i] = _temperature(
            rows[i],
            targets[i],
            coldest,
            hottest,
            most_steps,
            tolerance,
            tempered[worker],
            moments[worker],
        )


@kernel
def _temperature(
    scores: Any,
    target: float,
    low: float,
    high: float,
    most_steps: int,
    tolerance: float,
    row: Any,
    moments: Any,
) -> Any:
    states = scores.shape[0]
    log_t = min(max(np.float32(0), low), high)
    met_low, met_high = False, False
    for _ in range(most_steps):
        temperature = np.float32(np.exp(log_t))
        for j in range(states):
            row[j] = _divided(scores[j], temperature)
        row_moments(row, states, row_maximum(row, states), moments)
        excess, slope = moments[3] - target, moments[4]
        if excess > 0:
            high, met_high = log_t, True
        else:
            low, met_low = log_t, True
        if not (abs(excess) > tolerance and low < high):
            break
        bend = np.float32(-2) * slope - moments[5]
        halley = slope - excess * bend / (np.float32(2) * slope)
        usual = np.float32(0.25) * slope < halley < np.float32(4) * slope
        guess = log_t - excess / (halley if usual else slope)
        middle = (low + high) / np.float32(2)
        if low < guess < high:
            log_t = guess
        elif guess >= high:
            log_t = middle if met_high else high
        else:
            log_t = middle if met_low else low
    return np.float32(np.exp(log_t))


@exact
def _divided(score: Any, temperature: Any) -> Any:
    return score / temperature
