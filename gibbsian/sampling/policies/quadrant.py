r"""Quadrant: what to do by whether entropy and varentropy are low or high.

| S | V | branch | what happens |
| --- | --- | --- | --- |
| low | low | flowing | greedy |
| high | low | treading | insert a token to think with; if one was just inserted, a hotter draw |
| low or middle | high | exploring | branch; a hotter draw from more tokens |
| high | high | mist | resample: a hot draw from less probability |
| else | else | adaptive | the adaptive policy |
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Action, Decision
from gibbsian.sampling.filters.base import check_range
from gibbsian.sampling.policies.adaptive import Adaptive, check_pool
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.sampling.thresholds import Thresholds
from gibbsian.statistics import GibbsStatistics

_FLOWING, _TREADING, _EXPLORING, _MIST, _ADAPTIVE = range(5)
_CAUTION = 0.2
_COUPLING = 0.3
_MIST_HEATING = 0.5
_MIST_NARROWING = 0.2
_FEWEST_FORKS = 5
_MORE_FORKS = 0.5
_WARM = 1.5
_LEAST_MASS = 0.5
"""Entropix' coefficients and limits; those of attention statistics are per nat here."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class QuadrantState(PolicyState):
    """What the policy remembers."""

    inserted: Bool[Tensor, "batch"]
    """Whether the last token of the row was inserted."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Quadrant(Policy):
    r"""Entropix: four quadrants of (S, V), each with a way of its own to go on.

    Raises:
        ArgumentError: a parameter out of range, or thresholds in the wrong order or unit.

    Notes:
        Rows are decided one by one, attention terms are 0 where no attention is given. The actions
        BRANCH, RESAMPLE and INSERT are for a loop that can do them; the parameters alone are a
        sampler too.

    References:
        xjdr 2024, Entropix. What differs: docs/usage/sampling.md#defects.
    """

    name: ClassVar[str] = "quadrant"
    branches: ClassVar[tuple[str, ...]] = ("flowing", "treading", "exploring", "mist", "adaptive")

    thresholds: Thresholds = field(default_factory=Thresholds)
    """Low and high, in nats; see `calibrate`."""
    insert_token: int | None = None
    """The token to think with, of the model's tokenizer; None = a hotter draw instead."""
    temperature: float = 0.666
    """T > 0 that the branches start from."""
    top_p: float = 0.9
    """In (0, 1]."""
    top_k: int = 27
    """At least 1."""
    min_p: float = 0.03
    """In [0, 1]."""
    treading_heat: float = 1.3
    r"""Treading: $T (h + 0.2\, S_a)$, at most 1.5."""
    exploring_heat: float = 1.2
    r"""Exploring: $T (h + 0.3\, (\log n - S)_a)$, at most 1.5; up to 50 % more tokens."""
    mist_temperature: float = 2.0
    r"""Mist: at least this; $T (2 + V_a/2)$ if more. The probability falls by $0.2\, S_a$."""
    adaptive: Adaptive = field(default_factory=Adaptive)
    """What rows in none of the quadrants do."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_pool(self.temperature, self.top_p, self.top_k, self.min_p)
        for name in ("treading_heat", "exploring_heat", "mist_temperature"):
            check_range(name, getattr(self, name), 0.0, math.inf, "", without_low=True)
        if self.insert_token is not None and self.insert_token < 0:
            raise ArgumentError(
                f"`insert_token` must be a token's number >= 0, got {self.insert_token}. "
                "None never inserts."
            )

    def start(self, batch_size: int, device: torch.device | str) -> PolicyState:
        """Nothing was inserted yet."""
        return QuadrantState(inserted=torch.zeros(batch_size, dtype=torch.bool, device=device))

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """See `Policy`."""
        assert isinstance(state, QuadrantState)  # noqa: S101  (what `start` gave)
        branch = self._branch(statistics)
        middle = self.adaptive.parameters(statistics, attention)
        inserting = torch.zeros_like(state.inserted)
        if self.insert_token is not None:
            inserting = (branch == _TREADING) & ~state.inserted
        quadrants = self._parameters(statistics, attention)
        adaptive = branch == _ADAPTIVE

        def choose(name: str) -> Tensor:
            values = torch.stack([*quadrants[name], getattr(middle, name)])
            return values.gather(0, branch.unsqueeze(0)).squeeze(0)

        decision = Decision(
            temperature=choose("temperature"),
            top_k=choose("top_k"),
            top_k_bound=max(self.adaptive.top_k_bound, self._most_forks),
            top_p=choose("top_p"),
            min_p=choose("min_p"),
            candidates=self.adaptive.candidates,
            # all candidates of the other rows score alike, and the first is taken
            confidence=middle.confidence * adaptive,
            typicality=middle.typicality * adaptive,
            expected_surprisal=statistics.entropy,
            action=self._action(branch, inserting),
            branch=branch,
            insert_token=self.insert_token,
        )
        return decision, QuadrantState(inserted=inserting)

    @property
    def _most_forks(self) -> int:
        return max(_FEWEST_FORKS, math.ceil(self.top_k * (1 + _MORE_FORKS)))

    def _parameters(
        self, statistics: GibbsStatistics, attention: AttentionSignals | None
    ) -> dict[str, list[Tensor]]:
        """Of flowing, treading, exploring and mist."""
        like = statistics.entropy
        zero, base = torch.zeros_like(like), self.temperature
        treading, exploring = zero + self.treading_heat, zero + self.exploring_heat
        mist, forks = zero + 2, zero + self.top_k
        mass = torch.full_like(like, self.top_p)
        narrow = mass
        if attention is not None:
            spread = attention.entropy.to(like)
            treading = treading + _CAUTION * spread
            exploring = exploring + _COUPLING * attention.interaction_strength.to(like)
            mist = mist + _MIST_HEATING * attention.varentropy.to(like)
            forks = (forks * (1 + _MORE_FORKS * (1 - attention.agreement.to(like)))).round()
            least = min(_LEAST_MASS, self.top_p)
            narrow = (mass - _MIST_NARROWING * spread).clamp_min(least)
        warm, usual = max(_WARM, base), torch.full_like(like, self.top_k)
        return {
            "temperature": [
                zero,
                (base * treading).clamp_max(warm),
                (base * exploring).clamp_max(warm),
                (base * mist).clamp_min(self.mist_temperature),
            ],
            "top_k": [usual, usual, forks.clamp(_FEWEST_FORKS, self._most_forks), usual],
            "top_p": [mass, mass, mass, narrow],
            "min_p": [torch.full_like(like, self.min_p)] * 4,
        }

    def _branch(self, statistics: GibbsStatistics) -> Tensor:
        levels = self.thresholds
        entropy, varentropy = statistics.entropy, statistics.varentropy
        high = entropy >= levels.entropy_high
        calm, stormy = varentropy < levels.varentropy_low, varentropy >= levels.varentropy_high
        branch = torch.full_like(entropy, _ADAPTIVE, dtype=torch.int64)
        branch = torch.where((entropy < levels.entropy_low) & calm, _FLOWING, branch)
        branch = torch.where(high & calm, _TREADING, branch)
        branch = torch.where(~high & stormy, _EXPLORING, branch)
        return torch.where(high & stormy, _MIST, branch)

    @staticmethod
    def _action(branch: Tensor, inserting: Tensor) -> Tensor:
        action = torch.full_like(branch, int(Action.DRAW))
        for of, what in (
            (_FLOWING, Action.GREEDY),
            (_EXPLORING, Action.BRANCH),
            (_MIST, Action.RESAMPLE),
        ):
            action = torch.where(branch == of, int(what), action)
        return torch.where(inserting, int(Action.INSERT), action)

    @staticmethod
    def _encoded(value: Any) -> Any:
        return value.to_config() if isinstance(value, Thresholds | Adaptive) else value

    @staticmethod
    def _decoded(key: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if key == "thresholds":
            return Thresholds.from_config(value)
        options = dict(value)
        options.pop("name", None)
        return Adaptive.from_options(options)
