"""Seconds of several operations that take turns, and what follows from them."""

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gibbsian.experiments.bench.case import Mode, Operation, Outputs, run_once

MIN_ROUNDS = 3
"""Rounds that are made even if the time for a case is used up."""
SHORT = 0.25
"""Seconds below which a call is not timed but after another of the same operation."""
_RESAMPLINGS = 2000
_CONFIDENCE = 0.95
_FEW_ROUNDS = 6


def seconds_of(operation: Operation, mode: Mode, cotangents: Outputs | None) -> float:
    """Time one call."""
    if operation.before is not None:
        operation.before()
    start = time.perf_counter()
    run_once(operation, mode, cotangents)
    seconds = time.perf_counter() - start
    if operation.after is not None:
        operation.after()
    return seconds


def settle(timer: Callable[[], float]) -> Callable[[], float]:
    """Warm an operation up, and let it find its own caches, memory and threads if it is short.

    What another operation leaves behind (pages given back to the system, threads that spin on) adds
    milliseconds to a call.

    Returns:
        The timer itself where a call takes more than `SHORT` seconds, else one that calls twice and
        returns the seconds of the second call.
    """
    if timer() > SHORT:
        return timer

    def second_call() -> float:
        timer()
        return timer()

    return second_call


def interleave(
    timers: Mapping[str, Callable[[], float]],
    *,
    repeats: int,
    budget: float,
    on_round: Callable[[int, int], None] = lambda _done, _of: None,
) -> dict[str, list[float]]:
    """Let operations take turns, so that whatever slows the machine down slows all of them.

    Each round has an order of its own (the same in every run): none always follows the same one.

    Args:
        timers: each makes one call and returns its seconds.
        repeats: rounds at most.
        budget: seconds after which no further round starts, once there are `MIN_ROUNDS`.
        on_round: told the number of rounds done and the largest number.

    Returns:
        Seconds by name, one for each round.
    """
    found: dict[str, list[float]] = {name: [] for name in timers}
    order, shuffled = list(timers), random.Random(0)  # noqa: S311  (an order, no secret)
    start = time.perf_counter()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for done in range(repeats):
            if done >= MIN_ROUNDS and time.perf_counter() - start > budget:
                break
            shuffled.shuffle(order)
            for name in order:
                found[name].append(timers[name]())
            on_round(done + 1, repeats)
    finally:
        if collecting:
            gc.enable()
    return found


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles."""
    q1, median, q3 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {"median": median, "q1": q1, "q3": q3, "rounds": len(values)}


def summarise_ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Ratio of the medians, and an interval of it.

    The interval holds 95 % of the ratios of medians in resamplings of the rounds, each with both of
    its times; with fewer than six rounds it holds all of them.
    """
    rounds = len(above)
    drawn = np.random.default_rng(0).integers(rounds, size=(_RESAMPLINGS, rounds))
    medians = (np.median(np.asarray(times)[drawn], axis=1) for times in (above, below))
    tail = 0.0 if rounds < _FEW_ROUNDS else (1 - _CONFIDENCE) / 2
    low, high = np.quantile(np.divide(*medians), (tail, 1 - tail)).tolist()
    ratio = float(np.median(above) / np.median(below))
    return {"ratio": ratio, "low": low, "high": high, "rounds": rounds}
