"""Statistics of given rows of scores, one thread a block of rows."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.threads import num_workers, run
from gibbsian.statistics.cpu.row import NUM_MOMENTS, row_maximum, row_moments, statistics_of
from gibbsian.statistics.gibbs import GibbsStatistics

_STATES_A_TASK = 1 << 16


def given_row_statistics(rows: Tensor) -> GibbsStatistics:
    """Statistics (rows,) of contiguous float32 scores (rows, states), without a graph."""
    count, states = rows.shape
    moments = np.empty((count, NUM_MOMENTS), np.float32)
    rows_a_task = max(1, _STATES_A_TASK // max(1, states))
    tasks = -(-count // rows_a_task)
    if num_workers(tasks) > 1:
        run(_rows_of_task, tasks, rows_a_task, rows.numpy(), moments)
    elif tasks:
        _rows_of_task(0, 0, count, rows.numpy(), moments)
    return statistics_of(torch.from_numpy(moments))


@kernel
def _rows_of_task(task: int, worker: int, rows_a_task: int, rows: Any, moments: Any) -> None:
    count, states = rows.shape
    for i in range(task * rows_a_task, min(count, (task + 1) * rows_a_task)):
        row_moments(rows[i], states, row_maximum(rows[i], states), moments[i])
