"""A kernel's tasks on as many threads as torch may use.

The threads are Python's own: kernels release the interpreter's lock, so no second OpenMP runtime
comes into the process, and nothing of the pool survives a fork.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pools: list[ThreadPoolExecutor] = []


def num_workers(tasks: int) -> int:
    """How many threads `run` uses for so many tasks: at most `torch.get_num_threads()`."""
    return max(1, min(torch.get_num_threads(), tasks))


def run(kernel: Callable[..., None], tasks: int, *arguments: Any) -> None:
    """Calls `kernel(task, worker, *arguments)` for every task, each worker taking the next one.

    Args:
        kernel: releases the interpreter's lock.
        tasks: their number; `task` counts from 0.
        arguments: passed on. `worker`, from 0 to `num_workers(tasks)` - 1, tells which part of a
            scratch space is free: no two tasks run under the same number at once.

    Notes:
        The calling thread is worker 0 and does all the work itself while the others are busy with
        somebody else's. The first error of a task is raised here, after all workers have stopped.
    """
    workers = num_workers(tasks)
    if workers == 1:
        for task in range(tasks):
            kernel(task, 0, *arguments)
        return
    numbers = itertools.count()  # `next` on it is one step of the interpreter

    def work(worker: int) -> None:
        for task in numbers:
            if task >= tasks:
                return
            kernel(task, worker, *arguments)

    helpers = [_pool().submit(work, worker) for worker in range(1, workers)]
    try:
        work(0)
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _pool() -> ThreadPoolExecutor:
    if not _pools:
        _pools.append(ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "gibbsian"))
    return _pools[0]


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pools.clear)
