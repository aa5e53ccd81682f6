"""Numbers with confidence intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import SupportsFloat

import numpy as np
from scipy.stats import rankdata, t


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number, and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float
    count: int
    """Repetitions behind it."""
    over: str = "seeds"
    """What the repetitions are: seeds, heads, layers."""
    kind: str = "mean"
    """"mean" (Student's t interval), "resampled" (bootstrap interval), "largest" (the largest of
    all, and its range), or "p-value" (no interval)."""


def mean_of(values: Sequence[SupportsFloat], over: str = "seeds") -> Estimate:
    """Mean of independent repetitions, with Student's 95 % interval.

    Raises:
        ValueError: fewer than two values: they have no interval.
    """
    array = np.array([float(v) for v in values])
    if array.size < 2:
        raise ValueError(f"`values` must be at least two, got {array.size}.")
    mean = float(array.mean())
    error = float(array.std(ddof=1)) / array.size**0.5
    half = float(t.ppf(0.975, array.size - 1)) * error
    return Estimate(value=mean, low=mean - half, high=mean + half, count=int(array.size), over=over)


def mean_correlation(values: Sequence[SupportsFloat], over: str = "seeds") -> Estimate:
    """Mean of independent correlations, with Student's 95 % interval cut to [-1, 1].

    Student's interval is symmetric and knows no range; what lies outside no correlation can be.

    Raises:
        ValueError: fewer than two values: they have no interval.
    """
    found = mean_of(values, over)
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def largest_of(values: Sequence[SupportsFloat], over: str = "seeds") -> Estimate:
    """The largest repetition, with the smallest and the largest: for errors and violations."""
    array = np.array([float(v) for v in values])
    return Estimate(
        value=float(array.max()),
        low=float(array.min()),
        high=float(array.max()),
        count=int(array.size),
        over=over,
        kind="largest",
    )


def resampled(
    blocks: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    seed: int,
    over: str,
    *,
    draws: int = 2000,
) -> np.ndarray:
    """A function of means over blocks, with bootstrap intervals (percentiles, whole blocks drawn).

    Args:
        blocks: arrays (blocks, ...), one mean for each block of equal size.
        statistic: of the arrays' means over blocks, broadcasting over leading dimensions.
        seed: of the draws.
        over: what the blocks are.
        draws: how many resamples.

    Returns:
        An array of `Estimate`, in the shape of the statistic.

    Raises:
        ValueError: fewer than two blocks: they have no interval.
    """
    count = len(blocks[0])
    if count < 2:
        raise ValueError(f"`blocks` must be at least two, got {count}.")
    shares = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
    means = [((shares / count) @ a.reshape(count, -1)).reshape(draws, *a.shape[1:]) for a in blocks]
    value = statistic(*(np.asarray(a.mean(axis=0)) for a in blocks))
    low, high = np.percentile(statistic(*means), (2.5, 97.5), axis=0)
    found = np.empty(value.shape, dtype=object)
    for index in np.ndindex(value.shape):
        found[index] = Estimate(
            value=float(value[index]),
            # of numbers that are equal in all blocks the mean may be off by rounding
            low=min(float(low[index]), float(value[index])),
            high=max(float(high[index]), float(value[index])),
            count=count,
            over=over,
            kind="resampled",
        )
    return found


def slope(x: Sequence[SupportsFloat], y: Sequence[SupportsFloat]) -> float:
    """Least-squares slope of y on x."""
    a, b = np.array([float(v) for v in x]), np.array([float(v) for v in y])
    a = a - a.mean()
    return float((a * (b - b.mean())).sum() / (a**2).sum())


def rank_correlation(x: Sequence[SupportsFloat], y: Sequence[SupportsFloat]) -> float:
    """Spearman's; 0 where one side is constant."""
    a, b = rankdata(np.array([float(v) for v in x])), rankdata(np.array([float(v) for v in y]))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0
