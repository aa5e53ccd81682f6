"""Policies that act at given steps, so that a test knows what happens when."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from gibbsian.sampling import Action, AttentionSignals, Decision
from gibbsian.sampling.policies import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Counted(PolicyState):
    step: Tensor
    surprisal: Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scripted(Policy):
    """Step t of every row does `actions[t]`, then draws; greedy at temperature 0."""

    name: ClassVar[str] = "scripted"
    branches: ClassVar[tuple[str, ...]] = ("scripted",)

    actions: tuple[Action, ...] = ()
    temperature: float = 1.0
    insert_token: int | None = None
    lost_above: float | None = None

    def start(self, batch_size: int, device: torch.device | str) -> PolicyState:
        zero = torch.zeros(batch_size, device=device)
        return Counted(step=zero.long(), surprisal=zero)

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        del attention
        assert isinstance(state, Counted)
        script = torch.tensor([*map(int, self.actions), int(Action.DRAW)])
        action = script[state.step.clamp_max(len(self.actions))]
        if self.lost_above is not None:
            lost = statistics.entropy > self.lost_above
            action = torch.where(lost, int(Action.RESAMPLE), action)
        decision = Decision(
            temperature=self.temperature,
            action=action,
            insert_token=self.insert_token,
            branch=torch.zeros_like(action),
        )
        return decision, Counted(step=state.step + 1, surprisal=state.surprisal)

    def observe(self, state: PolicyState, surprisal: Tensor) -> PolicyState:
        assert isinstance(state, Counted)
        return Counted(step=state.step, surprisal=state.surprisal + surprisal)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Watched(Policy):
    """Draws, and keeps what it is told of the attention."""

    name: ClassVar[str] = "watched"

    seen: list[AttentionSignals | None] = field(default_factory=list)

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        del statistics
        self.seen.append(attention)
        return Decision(), state
