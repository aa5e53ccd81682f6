r"""Schedules that fall from one level to another as the entropy of the row rises.

With $s = S/\log n$ and $t = \mathrm{clamp}((s_{high} - s)/(s_{high} - s_{low}), 0, 1)$, which is 1
for rows of low entropy and 0 for rows of high entropy,

$$\zeta(S, V) = \text{lower}(V) + (\text{upper}(V) - \text{lower}(V))\, h(t),$$

h rising from h(0) = 0 to h(1) = 1. It is continuous in S and V. Without bounds the levels are 0 and
`zeta_max`. Mirrored, $1 - h$ takes the place of h. Derivation: docs/derivations/schedules.md#ramps.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gibbsian._typing import PerRow
from gibbsian.normalizers.schedules.base import (
    Direction,
    check_direction,
    check_edges,
    check_unit,
)
from gibbsian.normalizers.schedules.bounds import VarentropyBounds, sparsity_between
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramp(ABC):
    """What the fixed ramps share; a subclass gives the shape between the edges.

    Raises:
        ArgumentError: not 0 <= low < high <= 1, `zeta_max` outside [0, 1], an unknown direction.
    """

    low: float = 0.2
    r"""$s_{low}$, a normalised entropy: at and below it the row is at one end of the ramp."""
    high: float = 0.9
    r"""$s_{high}$ > `low`: at and above it the row is at the other end."""
    zeta_max: float = 1.0
    """Largest sparsity, in [0, 1]."""
    direction: Direction = "concentrate_low"
    """Which rows become sparse: those of low entropy, or (mirrored) those of high entropy."""
    bounds: VarentropyBounds | None = None
    """How the varentropy moves the two levels; None = it does not."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_edges(self.low, self.high)
        check_unit("zeta_max", self.zeta_max)
        check_direction(self.direction)

    def __call__(self, statistics: GibbsStatistics) -> PerRow:
        """Sparsity of each row, in [0, zeta_max]; `zeta_max` where there is at most one state."""
        entropy = statistics.normalized_entropy
        fraction = self._rise(((self.high - entropy) / (self.high - self.low)).clamp(0.0, 1.0))
        if self.direction == "concentrate_high":
            fraction = 1 - fraction
        interval = None
        if self.bounds is not None:
            interval = self.bounds.interval(statistics.varentropy, self.zeta_max)
        return sparsity_between(statistics, fraction, self.zeta_max, interval)

    @abstractmethod
    def _rise(self, position: Tensor) -> Tensor:
        """A continuous function that rises from 0 at 0 to 1 at 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear(Ramp):
    """A straight ramp: continuous, with a kink at each edge."""

    name: ClassVar[str] = "linear"

    def _rise(self, position: Tensor) -> Tensor:
        return position


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothStep(Ramp):
    r"""The cubic $t^2 (3 - 2t)$: once continuously differentiable, edges included."""

    name: ClassVar[str] = "smooth_step"

    def _rise(self, position: Tensor) -> Tensor:
        # the clamp takes off a last bit above 1
        return (position.square() * (3 - 2 * position)).clamp(max=1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine(Ramp):
    r"""Half a period of a cosine, $(1 - \cos \pi t)/2$: once continuously differentiable."""

    name: ClassVar[str] = "cosine"

    def _rise(self, position: Tensor) -> Tensor:
        # sin^2(pi t / 2), which keeps its digits at t -> 0
        return (math.pi / 2 * position).sin().square()
