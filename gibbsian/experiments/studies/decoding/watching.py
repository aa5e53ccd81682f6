"""The entropy of what a policy draws from, which the records of a text do not hold."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.sampling import AttentionSignals, Decision
from gibbsian.sampling.policies import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics, row_statistics


def realised_entropy(
    decision: Decision,
    logits: Float[Tensor, "batch states"],
    filtered: Float[Tensor, "batch states"],
) -> Float[Tensor, "batch"]:
    """Entropy in nats of the token that a decision takes.

    Args:
        decision: what was decided.
        logits: of the model.
        filtered: what the decision made of them.

    Notes:
        Where the best of several candidates is taken, the entropy of the best. A row that branches
        or resamples is counted by its own draw.
    """
    if decision.candidates == 1:
        drawn: Tensor = row_statistics(filtered).entropy
        return drawn
    kept = int((filtered > -torch.inf).sum(dim=-1).max())
    scores, index = filtered.topk(kept, dim=-1)
    log_partition = row_statistics(logits).log_partition.unsqueeze(-1)
    score = decision.score(logits.gather(-1, index) - log_partition)
    taken = best_of(scores.double().softmax(dim=-1), score, decision.candidates)
    entropy: Tensor = -torch.special.xlogy(taken, taken).sum(dim=-1)
    return entropy.to(logits.dtype)


def best_of(
    p: Float[Tensor, "batch tokens"], score: Float[Tensor, "batch tokens"], candidates: int
) -> Float[Tensor, "batch tokens"]:
    """Distribution of the token of the highest score among several draws from p.

    Of equal scores the one drawn first is taken: within them it is p's own.
    """
    other, own = score.unsqueeze(-2), score.unsqueeze(-1)
    lower: Tensor = ((other < own).to(p) @ p.unsqueeze(-1)).squeeze(-1)
    equal: Tensor = ((other == own).to(p) @ p.unsqueeze(-1)).squeeze(-1)
    of_score = (lower + equal) ** candidates - lower**candidates
    return torch.where(equal > 0, p * of_score / torch.where(equal > 0, equal, 1.0), 0.0)


@dataclass(kw_only=True, slots=True)
class Watch:
    """What was seen of the main rows; continuations that a loop follows in between are not."""

    entropies: list[Float[Tensor, "batch"]] = field(default_factory=list)
    """One entry a step."""
    waiting: bool = True
    """Whether the next decision is one of the main rows."""

    def next_step(self, records: Any = None) -> None:
        """To be called behind every step, as the loop's callback."""
        del records
        self.waiting = True

    def see(self, decision: Decision, logits: Tensor, filtered: Tensor) -> None:
        """Keep the entropy of a decision of the main rows."""
        if self.waiting:
            self.entropies.append(realised_entropy(decision, logits, filtered))
            self.waiting = False

    def of_rows(self) -> Float[Tensor, "batch steps"]:
        """All that was seen."""
        return torch.stack(self.entropies, dim=1)


class _WatchedDecision(Decision):
    """A decision that tells a watch what it does; its rows are ordinary decisions."""

    _watch: Watch
    _logits: Tensor

    def temper(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        object.__setattr__(self, "_logits", logits)
        return Decision.temper(self, logits)

    def cut(self, tempered: Tensor) -> Tensor:
        filtered = Decision.cut(self, tempered)
        self._watch.see(self, self._logits, filtered)
        return filtered


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched(Policy):
    """A policy that decides as another does, and lets a watch see the decisions."""

    policy: Policy
    """The other."""
    watch: Watch
    """Gets the entropies."""

    def __post_init__(self) -> None:
        """Take the other's names of branches."""
        object.__setattr__(self, "branches", self.policy.branches)

    def start(self, batch_size: int, device: torch.device | str) -> PolicyState:
        """The other's."""
        return self.policy.start(batch_size, device)

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """The other's decision, watched."""
        decision, remembered = self.policy.decide(statistics, state, attention)
        values = {f.name: getattr(decision, f.name) for f in fields(decision)}
        watched = _WatchedDecision(**values)
        object.__setattr__(watched, "_watch", self.watch)
        return watched, remembered

    def observe(self, state: PolicyState, surprisal: Float[Tensor, "batch"]) -> PolicyState:
        """The other's."""
        return self.policy.observe(state, surprisal)
