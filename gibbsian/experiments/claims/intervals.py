"""Numbers with confidence intervals."""

from collections.abc import Sequence
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
    """"mean" (Student's t interval), or "largest": the largest of all, and its range."""


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
