r"""Mirostat: feedback that holds the mean surprisal of the text at a target."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Decision
from gibbsian.sampling.filters import RowParameter
from gibbsian.sampling.filters.base import check_range
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MirostatState(PolicyState):
    """What Mirostat remembers."""

    limit: Float[Tensor, "batch"]
    r"""$\mu$: the largest surprisal allowed, nats."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mirostat(Policy):
    r"""Tokens with a surprisal of at most $\mu$, which each token taken moves (Mirostat 2).

    $$\mu \leftarrow \mu - \eta\, (J - \tau), \qquad J = -\log p_{taken}$$

    J is the surprisal under the model, not under the pool, so that $\tau$ is the cross entropy of
    the text; the most probable token is always allowed. $\mu$ stays >= 0, so that a stretch of text
    whose surprisal cannot come down to the target is not paid for afterwards.

    Raises:
        ArgumentError: a parameter not > 0.

    References:
        docs/derivations/sampling.md#mirostat. Basu et al. 2021, Mirostat: a neural text decoding
        algorithm that directly controls perplexity.
    """

    name: ClassVar[str] = "mirostat"

    target: RowParameter = 5 * math.log(2)
    r"""$\tau > 0$, nats. The paper's numbers are in bits: times 0.693."""
    rate: float = 0.1
    r"""$\eta > 0$."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("target", self.target, 0.0, math.inf, "It is in nats.", without_low=True)
        check_range("rate", self.rate, 0.0, math.inf, "0.1 is usual.", without_low=True)

    def start(self, batch_size: int, device: torch.device | str) -> PolicyState:
        r"""$\mu = 2 \tau$, as the paper has it."""
        target = torch.as_tensor(self.target, dtype=torch.float32, device=device)
        return MirostatState(limit=(2 * target).reshape(-1).expand(batch_size).contiguous())

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """See `Policy`."""
        del statistics, attention
        assert isinstance(state, MirostatState)  # noqa: S101  (what `start` gave)
        return Decision(epsilon=(-state.limit).exp()), state

    def observe(self, state: PolicyState, surprisal: Float[Tensor, "batch"]) -> PolicyState:
        """One step of feedback."""
        assert isinstance(state, MirostatState)  # noqa: S101  (what `start` gave)
        moved = state.limit - self.rate * (surprisal - self.target)
        return replace(state, limit=moved.to(state.limit.dtype).clamp_min(0.0))
