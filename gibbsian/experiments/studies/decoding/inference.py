"""Differences with bootstrap intervals, and p-values corrected for their number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95

Table = Mapping[str, Float[np.ndarray, "prompts"]]
"""One number for each prompt, by method."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A difference of two methods, or the mean of several."""

    value: float
    low: float
    """95 % interval."""
    high: float
    p: float
    """Two-sided, that it is 0."""
    corrected: float
    """The same by Holm, among those it was tested with."""

    def to_json(self) -> dict[str, float]:
        """Rounded to five digits."""
        return {name: round(value, 5) for name, value in asdict(self).items()}


def weights(prompts: int, resamples: int, seed: int) -> Float[np.ndarray, "resamples prompts"]:
    """How often each prompt is in each bootstrap sample, over the number of prompts."""
    counts = np.random.default_rng(seed).multinomial(
        prompts, np.full(prompts, 1 / prompts), size=resamples
    )
    return counts / prompts


def summarised(value: float, samples: NDArray[np.float64]) -> Difference:
    """A number with its bootstrap samples; not corrected.

    The p-value counts the samples on the other side of 0, itself among them: it is never 0.
    """
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    below, above = (samples <= 0).sum() + 1, (samples >= 0).sum() + 1
    p = min(1.0, 2 * float(min(below, above)) / (len(samples) + 1))
    return Difference(value=float(value), low=float(low), high=float(high), p=p, corrected=p)


def corrected(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """The same with Holm's p-values: the smallest times their number, the next times one less."""
    order = sorted(differences, key=lambda name: differences[name].p)
    found: dict[str, Difference] = {}
    largest = 0.0
    for rank, name in enumerate(order):
        largest = max(largest, min(1.0, differences[name].p * (len(order) - rank)))
        found[name] = Difference(**{**asdict(differences[name]), "corrected": largest})
    return {name: found[name] for name in differences}


def means_of(
    values: Sequence[Mapping[str, float]], names: Sequence[str]
) -> Float[np.ndarray, "prompts scores"]:
    """Scores of prompts as a table."""
    return np.array([[row[name] for name in names] for row in values])


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampled:
    """A score of one method on one subject, and its bootstrap samples."""

    value: float
    samples: NDArray[np.float64]


def resampled(
    rows: Float[np.ndarray, "prompts scores"],
    drawn: Float[np.ndarray, "resamples prompts"],
    of_means: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> Resampled:
    """A function of the means of scores over the prompts.

    Args:
        rows: scores of each prompt.
        drawn: from `weights`; the same for all methods, so that differences are paired.
        of_means: means (samples, scores) and weights (samples, prompts) to a number each.
    """
    equal = np.full((1, len(rows)), 1 / len(rows))
    value = of_means(rows.mean(axis=0, keepdims=True), equal)
    return Resampled(value=float(value[0]), samples=of_means(drawn @ rows, drawn))


def difference(
    ours: Sequence[Resampled], theirs: Sequence[Resampled], sign: float = 1.0
) -> Difference:
    """Mean over subjects of the difference of two methods."""
    pairs = list(zip(ours, theirs, strict=True))
    value = sum(a.value - b.value for a, b in pairs) / len(pairs)
    samples = sum((a.samples - b.samples for a, b in pairs), np.zeros(1)) / len(pairs)
    return summarised(sign * value, sign * samples)


def mean_difference(
    several: Sequence[Sequence[Resampled]], theirs: Sequence[Resampled], sign: float = 1.0
) -> Difference:
    """Mean over methods of their differences from one."""
    averaged = [
        Resampled(
            value=sum(a.value for a in of_subject) / len(of_subject),
            samples=sum((a.samples for a in of_subject), np.zeros(1)) / len(of_subject),
        )
        for of_subject in zip(*several, strict=True)
    ]
    return difference(averaged, theirs, sign)


def as_json(differences: Mapping[str, Difference]) -> dict[str, Any]:
    """All of them."""
    return {name: found.to_json() for name, found in differences.items()}
