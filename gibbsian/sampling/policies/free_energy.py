r"""Free energy: the temperature that gives a target entropy, the pool within a free-energy excess.

A policy sees no logits, and S at another temperature is not in the statistics: the decision names
the target, and a filter solves for it.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Decision
from gibbsian.sampling.filters import RowParameter, TargetEntropy
from gibbsian.sampling.filters.base import check_range
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FreeEnergy(Policy):
    r"""Minimises the free energy $U - T S$ at the T where S is as asked, over the pool as asked.

    Raises:
        ArgumentError: neither target nor excess, or one out of range.
    """

    name: ClassVar[str] = "free-energy"

    target_entropy: RowParameter | None = None
    r"""$S^* \ge 0$ in nats, $S(T) = S^*$; None = temperature 1."""
    excess: RowParameter | None = None
    r"""$\delta \ge 0$ in nats: the least pool A with $F_A - F \le \delta T$; None = all tokens."""
    coldest: float = 0.05
    """Smallest temperature."""
    hottest: float = 20.0
    """Largest temperature."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.target_entropy is None and self.excess is None:
            raise ArgumentError(
                "`target_entropy` or `excess` must be given, got neither. "
                "To change nothing use the policy 'fixed'."
            )
        target = 0.0 if self.target_entropy is None else self.target_entropy
        TargetEntropy(entropy=target, coldest=self.coldest, hottest=self.hottest)
        if self.excess is not None:
            check_range("excess", self.excess, 0.0, math.inf, "0.1 is top-p 0.905.")

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """See `Policy`."""
        del statistics, attention
        top_p: RowParameter | None = None
        if isinstance(self.excess, Tensor):
            top_p = torch.exp(-self.excess)
        elif self.excess is not None:
            top_p = math.exp(-self.excess)
        decision = Decision(
            target_entropy=self.target_entropy,
            coldest=self.coldest,
            hottest=self.hottest,
            top_p=top_p,
        )
        return decision, state
