r"""A ramp whose edges and height gradient descent finds, for each head.

$$\zeta = \text{lower}(V) + (\text{upper}(V) - \text{lower}(V))\;
  \sigma\!\left(6\, \frac{(s_{low} + s_{high})/2 - s}{s_{high} - s_{low}}\right)$$

The sigmoid has the slope of the smoothstep at the middle of the ramp, but no flat part: a ramp with
edges gives a gradient of exactly 0 to all rows beyond them, and a head whose rows all begin nearly
uniform would never learn (docs/derivations/schedules.md#learnable).
"""

from dataclasses import asdict
from typing import Any, ClassVar

from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import PerRow
from gibbsian.normalizers.schedules.base import Direction, check_direction
from gibbsian.normalizers.schedules.bounds import VarentropyBounds, sparsity_between
from gibbsian.normalizers.schedules.learnable_bounds import LearnableBounds
from gibbsian.normalizers.schedules.parameters import PerHeadParameters, logit, sigmoid
from gibbsian.statistics import GibbsStatistics

_STEEPNESS = 6.0
"""Slope of the smoothstep at its middle (3/2 of the mean) over that of the sigmoid (1/4)."""

_MIN_WIDTH = 0.01
"""The narrowest ramp: a step would stop learning, and divide by 0."""


class LearnableRamp(PerHeadParameters):
    r"""A monotone ramp in the normalised entropy, learned by gradient descent.

    Unconstrained parameters a, b, c, one of each for a head, give $\zeta_{\max} = \sigma(a)$,
    $s_{high} = w + (1 - w)\,\sigma(b)$ and $s_{low} = (s_{high} - w)\,\sigma(c)$ with w = 0.01:
    $0 < s_{low} < s_{high} < 1$ and a width of at least w, wherever descent goes.

    Args:
        num_heads: None = one ramp shared by all rows.
        low: initial $s_{low}$, > 0: where the ramp has 95.3 % of its height (mirrored: 4.7 %).
        high: initial $s_{high}$, < 1 and > `low` + 0.01: where it has 4.7 % (mirrored: 95.3 %).
        zeta_max: initial largest sparsity, strictly between 0 and 1.
        direction: which rows become sparse: those of low entropy, or (mirrored) of high entropy.
        bounds: initial bounds under varentropy, learned too; None = the levels 0 and `zeta_max`.

    Raises:
        ArgumentError: an initial value outside its range (an end has no gradient).

    Notes:
        Statistics must be shaped (..., heads, queries) where `num_heads` is given, else any shape.
        The result lies strictly inside the levels: it comes near 0 and `zeta_max`, but is neither.
    """

    name: ClassVar[str] = "learnable_ramp"

    def __init__(
        self,
        *,
        num_heads: int | None = None,
        low: float = 0.2,
        high: float = 0.9,
        zeta_max: float = 0.5,
        direction: Direction = "concentrate_low",
        bounds: VarentropyBounds | None = None,
    ) -> None:
        super().__init__(num_heads=num_heads)
        check_direction(direction)
        if not 0.0 < low < high - _MIN_WIDTH < 1.0 - _MIN_WIDTH:
            raise ArgumentError(
                f"`low` and `high` must satisfy 0 < low < high - {_MIN_WIDTH} and high < 1 to be "
                f"learned, got low={low}, high={high}. They are normalised entropies S / log n."
            )
        self.direction: Direction = direction
        self._initial = {
            "low": low,
            "high": high,
            "zeta_max": zeta_max,
            "direction": direction,
            "bounds": None if bounds is None else asdict(bounds),
        }
        self.raw_zeta_max = self._parameter(logit("zeta_max", zeta_max))
        self.raw_high = self._parameter(logit("high", (high - _MIN_WIDTH) / (1 - _MIN_WIDTH)))
        self.raw_low = self._parameter(logit("low", low / (high - _MIN_WIDTH)))
        self.bounds = None if bounds is None else LearnableBounds(bounds, num_heads=num_heads)

    @property
    def low(self) -> Tensor:
        """Current lower edge: (num_heads,), or () where shared; differentiable."""
        return self._readable(self._edges()[0])

    @property
    def high(self) -> Tensor:
        """Current upper edge, likewise."""
        return self._readable(self._edges()[1])

    @property
    def zeta_max(self) -> Tensor:
        """Current largest sparsity, likewise."""
        return self._readable(sigmoid(self.raw_zeta_max))

    def values(self) -> dict[str, Tensor]:
        """Current `low`, `high` and `zeta_max`, and those of the bounds if there are any."""
        own = {"low": self.low, "high": self.high, "zeta_max": self.zeta_max}
        return own if self.bounds is None else own | self.bounds.values()

    def forward(self, statistics: GibbsStatistics) -> PerRow:
        """Sparsity of each row, in [0, zeta_max]; `zeta_max` where there is at most one state."""
        entropy = statistics.normalized_entropy
        low, high = (self._for_rows(edge, entropy) for edge in self._edges())
        zeta_max = self._for_rows(sigmoid(self.raw_zeta_max), entropy)
        fraction = (_STEEPNESS * ((low + high) / 2 - entropy) / (high - low)).sigmoid()
        if self.direction == "concentrate_high":
            fraction = 1 - fraction
        interval = None
        if self.bounds is not None:
            interval = self.bounds.interval(statistics.varentropy, zeta_max)
        return sparsity_between(statistics, fraction, zeta_max, interval)

    def options(self) -> dict[str, Any]:
        """The keyword arguments that build it again, with the initial values; JSON-able."""
        return {"num_heads": self.num_heads, **self._initial}

    def extra_repr(self) -> str:
        """Shown by `print(module)`."""
        return f"num_heads={self.num_heads}, direction={self.direction!r}"

    def _edges(self) -> tuple[Tensor, Tensor]:
        high = _MIN_WIDTH + (1 - _MIN_WIDTH) * sigmoid(self.raw_high)
        return (high - _MIN_WIDTH) * sigmoid(self.raw_low), high
