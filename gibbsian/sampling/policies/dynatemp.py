r"""DynaTemp: a temperature between two, by the normalised entropy."""

import math
from dataclasses import dataclass
from typing import ClassVar

from gibbsian._errors import ArgumentError
from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Decision
from gibbsian.sampling.filters import RowParameter
from gibbsian.sampling.filters.base import check_range
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DynaTemp(Policy):
    r"""Dynamic temperature as llama.cpp has it.

    $$T = T_{low} + (T_{high} - T_{low}) \left(\frac{S}{\log n}\right)^{\gamma}$$

    with n the number of tokens present.

    Raises:
        ArgumentError: not 0 <= low <= high, or an exponent not > 0.
    """

    name: ClassVar[str] = "dynatemp"

    low: float = 0.5
    """Temperature of a row of entropy 0, >= 0."""
    high: float = 1.5
    """Temperature of a uniform row, >= `low`."""
    exponent: float = 1.0
    r"""$\gamma > 0$."""
    min_p: RowParameter | None = None
    """Probability relative to the largest, in [0, 1]; None = all tokens."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 <= self.low <= self.high < math.inf:
            raise ArgumentError(
                f"`low` and `high` must satisfy 0 <= low <= high < inf, got {self.low} and "
                f"{self.high}. They are temperatures, not entropies."
            )
        check_range("exponent", self.exponent, 0.0, math.inf, "1 is linear.", without_low=True)
        if self.min_p is not None:
            check_range("min_p", self.min_p, 0.0, 1.0, "None keeps all tokens.")

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """See `Policy`."""
        del attention
        rise = statistics.normalized_entropy**self.exponent
        temperature = self.low + (self.high - self.low) * rise
        return Decision(temperature=temperature, min_p=self.min_p), state
