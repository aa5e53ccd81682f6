"""The usual parameters, the same at every step."""

from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor

from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Decision
from gibbsian.sampling.filters import RowParameter, Temperature
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fixed(Policy):
    """Temperature and filters that do not depend on the statistics; None = not used.

    Raises:
        ArgumentError: a parameter out of its filter's range.
    """

    name: ClassVar[str] = "fixed"

    temperature: RowParameter = 1.0
    """T >= 0; 0 is greedy."""
    top_n_sigma: RowParameter | None = None
    """See `TopNSigma`."""
    top_h: RowParameter | None = None
    """See `TopH`."""
    top_k: int | Tensor | None = None
    """See `TopK`."""
    top_p: RowParameter | None = None
    """See `TopP`."""
    min_p: RowParameter | None = None
    """See `MinP`."""
    typical: RowParameter | None = None
    """See `Typical`."""
    epsilon: RowParameter | None = None
    """See `Epsilon`."""
    eta: RowParameter | None = None
    """See `Eta`."""
    p_less: bool = False
    """See `PLess`."""
    zeta: RowParameter | None = None
    """See `EntmaxFilter`."""

    def __post_init__(self) -> None:
        """Check the ranges: each filter checks its own."""
        Temperature(temperature=self.temperature)
        self._decision().cuts()

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """See `Policy`."""
        del statistics, attention
        return self._decision(), state

    def _decision(self) -> Decision:
        return Decision(**{f.name: getattr(self, f.name) for f in fields(self)})
