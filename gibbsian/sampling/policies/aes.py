r"""AES: the sparsity of the next-token distribution by its entropy and varentropy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from gibbsian.normalizers.schedules import (
    Schedule,
    SmoothStep,
    schedule_from_config,
    schedule_to_config,
)
from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Decision
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AESPolicy(Policy):
    r"""Draws from $\mathrm{entmax}(x, \zeta(S, V))$, with the schedules of the attention.

    For its sparsity that distribution minimises the deformed free energy.

    Raises:
        ArgumentError: on a description, of a schedule that is not the package's own.
    """

    name: ClassVar[str] = "aes"

    schedule: Schedule = field(default_factory=SmoothStep)
    """Any map from statistics (batch,) to a sparsity in [0, 1]."""

    @torch.no_grad()
    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """See `Policy`."""
        del attention
        return Decision(zeta=self.schedule(statistics)), state

    @staticmethod
    def _encoded(value: Any) -> Any:
        return schedule_to_config(value)

    @staticmethod
    def _decoded(key: str, value: Any) -> Any:
        del key
        return schedule_from_config(value) if isinstance(value, Mapping) else value
