"""The entropy of what a policy draws from, which the records of a text do not hold."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LogitsProcessor

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


class EntropyRecorder(LogitsProcessor):
    """Entropies of the decisions on the main rows; continuations followed in between do not count.

    As a processor of logits it changes none and keeps the last ones; the decision that follows is
    one on them.
    """

    def __init__(self) -> None:
        self._entropies: list[Tensor] = []
        self._logits: Tensor | None = None
        self._waiting = True

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Look at the logits of the main rows."""
        del input_ids
        if self._waiting:
            self._logits = scores
        return scores

    def record(self, decision: Decision) -> None:
        """Keep the entropy of the first decision of a step."""
        if self._waiting and self._logits is not None:
            filtered = decision.apply(self._logits)
            self._entropies.append(realised_entropy(decision, self._logits, filtered))
            self._waiting, self._logits = False, None

    def next_step(self, records: object = None) -> None:
        """To be called behind every step, as the loop's callback."""
        del records
        self._waiting = True

    def of_rows(self) -> Float[Tensor, "batch steps"]:
        """The entropies of all steps."""
        return torch.stack(self._entropies, dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedPolicy(Policy):
    """A policy that decides as another does, and hands its decisions to a recorder."""

    policy: Policy
    """The other."""
    recorder: EntropyRecorder
    """Gets the decisions."""

    def __post_init__(self) -> None:
        """Take the other's names of branches."""
        object.__setattr__(self, "branches", self.policy.branches)

    @property
    def remembers(self) -> bool:
        """Whether the other does."""
        return self.policy.remembers

    def start(self, batch_size: int, device: torch.device | str) -> PolicyState:
        """The other's."""
        return self.policy.start(batch_size, device)

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """The other's decision."""
        decision, remembered = self.policy.decide(statistics, state, attention)
        self.recorder.record(decision)
        return decision, remembered

    def observe(self, state: PolicyState, surprisal: Float[Tensor, "batch"]) -> PolicyState:
        """The other's."""
        return self.policy.observe(state, surprisal)
