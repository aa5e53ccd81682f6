r"""EDT: the temperature falls with the entropy, $T = T_0 N^{\theta/S}$."""

import math
from dataclasses import dataclass
from typing import ClassVar

from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Decision
from gibbsian.sampling.filters import RowParameter
from gibbsian.sampling.filters.base import check_range
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EDT(Policy):
    r"""Entropy-based dynamic temperature: hot where the model is unsure, greedy where S -> 0.

    $$T = T_0\, N^{\theta/S}, \qquad 0 < N < 1$$

    Raises:
        ArgumentError: a parameter out of range.

    References:
        Zhang et al. 2024, EDT: improving large language models' generation by entropy-based
        dynamic temperature sampling.
    """

    name: ClassVar[str] = "edt"

    temperature: RowParameter = 0.8
    r"""$T_0 \ge 0$, the temperature of a row of infinite entropy; 0 is greedy."""
    theta: RowParameter = 0.5
    r"""$\theta \ge 0$, nats: the larger, the colder; 0 makes the temperature $T_0$."""
    base: float = 0.8
    """N in (0, 1)."""
    top_p: RowParameter | None = None
    """Probability of the pool, in [0, 1]; None = all tokens."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("temperature", self.temperature, 0.0, math.inf, "0.8 is usual.")
        check_range("theta", self.theta, 0.0, math.inf, "0 turns the policy off.")
        below_one = math.nextafter(1.0, 0.0)
        check_range("base", self.base, 0.0, below_one, "0.8 is the paper's.", without_low=True)
        if self.top_p is not None:
            check_range("top_p", self.top_p, 0.0, 1.0, "None keeps all tokens.")

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """See `Policy`."""
        del attention
        # at S = 0 the exponent is -inf, or 0 / 0 where theta is 0 too
        entropy = statistics.entropy.clamp_min(1e-20)
        temperature = self.temperature * (math.log(self.base) * self.theta / entropy).exp()
        return Decision(temperature=temperature, top_p=self.top_p), state
