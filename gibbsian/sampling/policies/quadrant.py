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
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias

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

_Table: TypeAlias = tuple[Any, ...]

_FLOWING, _TREADING, _EXPLORING, _MIST, _ADAPTIVE = range(5)
_BRANCHES = (  # V low, middle, high
    (_FLOWING, _ADAPTIVE, _EXPLORING),  # S low
    (_ADAPTIVE, _ADAPTIVE, _EXPLORING),  # S middle
    (_TREADING, _ADAPTIVE, _MIST),  # S high
)
_ACTIONS = tuple(
    int(action)
    for action in (Action.GREEDY, Action.DRAW, Action.BRANCH, Action.RESAMPLE, Action.DRAW)
)
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
    """Whether the last token of the row was to be inserted: logits may have forbidden it."""


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
        parameters = self._parameters(branch, attention, statistics.entropy)
        middle = self.adaptive.parameters(statistics, attention)
        adaptive = branch == _ADAPTIVE
        action = _of_branch((_ACTIONS,), branch, torch.int64)[0]
        remembered = state
        if self.insert_token is not None:
            inserting = (branch == _TREADING) & ~state.inserted
            action = torch.where(inserting, int(Action.INSERT), action)
            remembered = QuadrantState(inserted=inserting)
        chosen: dict[str, Any] = {}
        for name, value in parameters.items():
            own = getattr(middle, name)
            # a number is in the table already
            chosen[name] = torch.where(adaptive, own, value) if isinstance(own, Tensor) else value
        decision = Decision(
            **chosen,
            top_k_bound=max(self.adaptive.top_k_bound, self._most_forks),
            candidates=self.adaptive.candidates,
            # all candidates of the other rows score alike, and the first is taken
            confidence=middle.confidence * adaptive,
            typicality=middle.typicality * adaptive,
            expected_surprisal=statistics.entropy,
            action=action,
            branch=branch,
            insert_token=self.insert_token,
        )
        return decision, remembered

    @property
    def _most_forks(self) -> int:
        return max(_FEWEST_FORKS, math.ceil(self.top_k * (1 + _MORE_FORKS)))

    def _parameters(
        self, branch: Tensor, attention: AttentionSignals | None, like: Tensor
    ) -> dict[str, Tensor]:
        """What the branch of each row decides; of the adaptive one what is the same in all rows."""
        warm, k, p = max(_WARM, self.temperature), self.top_k, self.top_p
        # of flowing, treading, exploring, mist, adaptive
        table = (
            (0.0, self.treading_heat, self.exploring_heat, 2.0, 0.0),
            (0.0, 0.0, 0.0, self.mist_temperature, 0.0),
            (0.0, warm, warm, math.inf, 0.0),
            (k, k, min(max(k, _FEWEST_FORKS), self._most_forks), k, self.adaptive.top_k),
            (p, p, p, p, self.adaptive.top_p),
            (self.min_p,) * 5,
        )
        heat, coldest, hottest, top_k, top_p, min_p = _of_branch(table, branch, like.dtype)
        if attention is not None:
            spread, forks = attention.entropy.to(like), 1 - attention.agreement.to(like)
            coupling = _COUPLING * attention.interaction_strength.to(like)
            heat = heat + torch.where(branch == _TREADING, _CAUTION * spread, 0.0)
            heat = heat + torch.where(branch == _EXPLORING, coupling, 0.0)
            varied = _MIST_HEATING * attention.varentropy.to(like)
            heat = heat + torch.where(branch == _MIST, varied, 0.0)
            forks = (k * (1 + _MORE_FORKS * forks)).round().clamp(_FEWEST_FORKS, self._most_forks)
            top_k = torch.where(branch == _EXPLORING, forks, top_k)
            narrow = (top_p - _MIST_NARROWING * spread).clamp_min(min(_LEAST_MASS, p))
            top_p = torch.where(branch == _MIST, narrow, top_p)
        temperature = (self.temperature * heat).clamp(coldest, hottest)
        return {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}

    def _branch(self, statistics: GibbsStatistics) -> Tensor:
        levels = self.thresholds
        entropy, varentropy = statistics.entropy, statistics.varentropy
        row = _level(entropy, levels.entropy_low, levels.entropy_high)
        column = _level(varentropy, levels.varentropy_low, levels.varentropy_high)
        return _constant(_BRANCHES, torch.int64, row.device)[row, column]

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


def _level(values: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1, and 2 from `high` on."""
    edges = _constant((low, high), values.dtype, values.device)
    return torch.bucketize(values.contiguous(), edges, right=True)


def _of_branch(table: _Table, branch: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Of each line of a table (lines, branches) the number of each row's branch."""
    return _constant(table, dtype, branch.device)[:, branch].unbind()


@lru_cache(maxsize=64)
def _constant(table: _Table, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Copied to the device once: a copy at every step would wait for it."""
    return torch.tensor(table, dtype=dtype, device=device)
