r"""Adaptive: parameters that follow the uncertainty, and the best of a few candidates.

With $s = S/\log n$ and $v = V/(V + 1)$ the uncertainty of the token is $u = (s + v)/2 \in [0, 1]$;
that of the attention is $w = S_a/\log n_a \in [0, 1]$. Where no attention is given its terms are 0.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Decision
from gibbsian.sampling.filters.base import check_range
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics

_ATTENTION_HEAT = 0.2
_AGREEMENT_COOLING = 0.2
_WIDENING = 0.1
_FOCUS = 0.3
_TIGHTENING = 0.5
"""Entropix' coefficients, of quantities in [0, 1] here."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Adaptive(Policy):
    r"""Hotter and wider the less sure the model is; of several candidates the best is taken.

    $$T = T_0 (1 + h u + 0.2\, w - 0.2\, a), \quad
      \text{score} = (1 - u)(1 + a) \log p - u\, |{-\log p} - S|$$

    with a the agreement of the heads. A candidate's score is its own: sure rows take the most
    probable candidate, unsure ones the most typical.

    Raises:
        ArgumentError: a parameter out of range.

    References:
        The adaptive sampler of Entropix, with quantities in nats and its defects mended
        (docs/usage/sampling.md#defects).
    """

    name: ClassVar[str] = "adaptive"
    branches: ClassVar[tuple[str, ...]] = ("adaptive",)

    temperature: float = 0.666
    """$T_0 > 0$."""
    heat: float = 0.6
    """h >= 0: how much an unsure row is hotter."""
    top_p: float = 0.9
    """In (0, 1]; up to a tenth more where the attention's varentropy is high."""
    top_k: int = 27
    """At least 1; up to 30 % more where the attention is focused, less where heads agree."""
    min_p: float = 0.03
    """In [0, 1]; up to half less where the row is unsure."""
    candidates: int = 5
    """Tokens drawn, of which one is taken; 1 = an unbiased draw."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_pool(self.temperature, self.top_p, self.top_k, self.min_p)
        check_range("heat", self.heat, 0.0, math.inf, "0 is no heating.")
        if self.candidates < 1:
            raise ArgumentError(
                f"`candidates` must be an integer >= 1, got {self.candidates}. 1 scores nothing."
            )

    @property
    def top_k_bound(self) -> int:
        """The largest number of tokens it can decide on."""
        return math.ceil(self.top_k * (1 + _FOCUS))

    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """See `Policy`."""
        parameters = self.parameters(statistics, attention)
        decision = Decision(
            **parameters._asdict(),
            top_k_bound=self.top_k_bound,
            candidates=self.candidates,
            expected_surprisal=statistics.entropy,
        )
        return decision, state

    def parameters(
        self, statistics: GibbsStatistics, attention: AttentionSignals | None
    ) -> "AdaptiveParameters":
        """What is decided for each row."""
        varentropy = statistics.varentropy
        unsure = (statistics.normalized_entropy + varentropy / (varentropy + 1)) / 2
        heat, confidence = 1 + self.heat * unsure, 1 - unsure
        top_k: int | Tensor = self.top_k
        top_p: float | Tensor = self.top_p
        if attention is not None:
            spread, agreement = _spread(attention).to(unsure), attention.agreement.to(unsure)
            varied = (attention.varentropy / (attention.varentropy + 1)).to(unsure)
            heat = heat + _ATTENTION_HEAT * spread - _AGREEMENT_COOLING * agreement
            top_k = self.top_k * (1 + _FOCUS * (1 - spread) - _AGREEMENT_COOLING * agreement)
            top_k = top_k.round().clamp(1, self.top_k_bound)
            top_p = (self.top_p * (1 + _WIDENING * varied)).clamp_max(1.0)
            confidence = confidence * (1 + agreement)
        return AdaptiveParameters(
            temperature=self.temperature * heat,
            top_k=top_k,
            top_p=top_p,
            min_p=self.min_p * (1 - _TIGHTENING * unsure),
            confidence=confidence,
            typicality=unsure,
        )


class AdaptiveParameters(NamedTuple):
    """Fields of `Decision`, numbers for all rows or one a row."""

    temperature: Tensor
    top_k: int | Tensor
    top_p: float | Tensor
    min_p: Tensor
    confidence: Tensor
    typicality: Tensor


def _spread(attention: AttentionSignals) -> Tensor:
    """S over log n, 0 where there is one key."""
    whole = attention.entropy + attention.interaction_strength
    return torch.where(whole > 0, attention.entropy / torch.where(whole > 0, whole, 1.0), 0.0)


def check_pool(temperature: float, top_p: float, top_k: int, min_p: float) -> None:
    """Raises `ArgumentError` for a parameter outside its filter's range."""
    check_range("temperature", temperature, 0.0, math.inf, "0.7 is usual.", without_low=True)
    check_range("top_p", top_p, 0.0, 1.0, "1 keeps all tokens.", without_low=True)
    check_range("min_p", min_p, 0.0, 1.0, "0 keeps all tokens.")
    if top_k < 1:
        raise ArgumentError(f"`top_k` must be an integer >= 1, got {top_k}. 27 is Entropix' own.")
