"""Seconds of several operations that take turns, and what follows from them."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gibbsian.experiments.bench.case import Mode, Operation, Outputs, run_once

MIN_ROUNDS = 3
"""Rounds that are made even if the time for a case is used up."""
_CONFIDENCE = 0.95


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


def interleave(
    timers: Mapping[str, Callable[[], float]],
    *,
    repeats: int,
    budget: float,
    on_round: Callable[[int, int], None] = lambda _done, _of: None,
) -> dict[str, list[float]]:
    """Let operations take turns, so that whatever slows the machine down slows all of them.

    Each round begins with another one: none always runs on the caches that the same one leaves.

    Args:
        timers: each makes one call and returns its seconds.
        repeats: rounds at most.
        budget: seconds after which no further round starts, once there are `MIN_ROUNDS`.
        on_round: told the number of rounds done and the largest number.

    Returns:
        Seconds by name, one for each round.
    """
    found: dict[str, list[float]] = {name: [] for name in timers}
    order = list(timers)
    start = time.perf_counter()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for done in range(repeats):
            if done >= MIN_ROUNDS and time.perf_counter() - start > budget:
                break
            first = done % max(len(order), 1)
            for name in (*order[first:], *order[:first]):
                found[name].append(timers[name]())
            on_round(done + 1, repeats)
    finally:
        if collecting:
            gc.enable()
    return found


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles."""
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "q1": _quantile(ordered, 0.25),
        "q3": _quantile(ordered, 0.75),
        "rounds": len(ordered),
    }


def summarise_ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Ratio of the medians, and an interval of the rounds' ratios.

    The interval reaches from one ordered ratio of a round to another such that it holds the median
    of such ratios with a probability of at least 95 %, whatever the distribution; with fewer than
    six rounds it is the whole range.
    """
    ordered = sorted(a / b for a, b in zip(above, below, strict=True))
    skipped = _ranks_outside(len(ordered))
    return {
        "ratio": statistics.median(above) / statistics.median(below),
        "low": ordered[skipped],
        "high": ordered[-1 - skipped],
        "rounds": len(ordered),
    }


def _quantile(ordered: Sequence[float], part: float) -> float:
    position = part * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _ranks_outside(count: int) -> int:
    """How many ordered values on each side may be left out of a median's interval."""
    skipped, outside = 0, 0.0
    while skipped < (count - 1) // 2:
        outside += 2 * math.comb(count, skipped) / 2**count
        if outside > 1 - _CONFIDENCE:
            break
        skipped += 1
    return skipped
