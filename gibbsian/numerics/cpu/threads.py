"""A kernel's tasks on torch's own threads.

Kernels release the interpreter's lock, so any threads will do. The ones at hand are those of the
OpenMP runtime that torch itself uses: after each of its operations they spin for a while, and
threads of another pool would have to share the cores with them. Where that runtime has no team to
offer (it has no such function, or this process was forked), plain Python threads take its place.
"""

import ctypes
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch


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
        The calling thread works too. The first error of a task is raised here, after all workers
        have stopped.
    """
    workers = num_workers(tasks)
    if workers == 1:
        for task in range(tasks):
            kernel(task, 0, *arguments)
        return
    # `next` on a count is one step of the interpreter: no two threads get the same number
    next_task, next_worker = itertools.count(), itertools.count()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            worker = next(next_worker)
            for task in next_task:
                if task >= tasks or errors:
                    return
                kernel(task, worker, *arguments)
        except BaseException as error:  # noqa: BLE001  # no exception may pass through OpenMP
            errors.append(error)

    (_team_of_openmp or _team_of_python)(work, workers)
    if errors:
        raise errors[0]
    # mostly none: what a thread left that an interrupt kept from starting
    for task in next_task:
        if task >= tasks:
            return
        kernel(task, 0, *arguments)


_Team = Callable[[Callable[[], None], int], None]
"""Calls a function once in each of so many threads, one of them the caller's."""


def _find_team_of_openmp() -> _Team | None:
    try:
        # looked up in torch's libraries and what they are linked to: torch's runtime, no other
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel  # noqa: SLF001 (no public name)
    except (OSError, AttributeError):
        return None
    region = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    parallel.argtypes = (region, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None

    def team(work: Callable[[], None], workers: int) -> None:
        parallel(region(lambda _: work()), None, workers, 0)

    return team


_team_of_openmp = _find_team_of_openmp()
_pools: list[ThreadPoolExecutor] = []


def _team_of_python(work: Callable[[], None], workers: int) -> None:
    if not _pools:
        _pools.append(ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "gibbsian"))
    helpers = [_pools[0].submit(work) for _ in range(workers - 1)]
    work()
    # one that has not started, in a pool busy with another caller's work, is not needed any more
    wait([helper for helper in helpers if not helper.cancel()])


def _forget_threads() -> None:
    global _team_of_openmp  # noqa: PLW0603  # the module's one piece of state
    _team_of_openmp = None
    _pools.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    # a child has none of its parent's threads, and GNU's OpenMP would wait for them for ever
    os.register_at_fork(after_in_child=_forget_threads)
