"""Samplers with one knob each, so that they can be set to equal strength."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log
from typing import TypeAlias

import torch
from torch import Tensor

from gibbsian.normalizers.schedules import SmoothStep
from gibbsian.sampling.filters import (
    EntmaxFilter,
    Epsilon,
    Eta,
    MinP,
    PLess,
    Temperature,
    TopH,
    TopNSigma,
    TopP,
    Typical,
)
from gibbsian.sampling.policies import EDT, AESPolicy, DynaTemp, FreeEnergy, Policy, Quadrant
from gibbsian.sampling.thresholds import Thresholds
from gibbsian.statistics import row_statistics

Sampler: TypeAlias = Callable[[Tensor], Tensor]
"""Logits (rows, states) to logits, tokens taken away at -inf."""

_SMALLEST = 1e-7
"""Of thresholds on probabilities: it cuts next to nothing."""
_COLDEST = 0.02
_MOST_ENTROPY = 11.0
"""Nats, above that of any row of 49152 tokens."""
_MOST_THETA = 40.0
_MOST_SIGMAS = 16.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A sampler with a knob from 0, where it does next to nothing, to 1, its strongest."""

    name: str
    make: Callable[[float], Sampler]
    """The sampler at a setting of the knob."""
    driven: bool = False
    """Whether the entropy (or varentropy) of the row drives it."""
    cuts: bool = True
    """Whether it takes tokens away."""
    has_knob: bool = True
    """False: one sampler, whatever the knob."""


def followed(policy: Policy) -> Sampler:
    """What a policy decides at the first token, applied: its actions as plain draws."""

    def apply(rows: Tensor) -> Tensor:
        state = policy.start(rows.shape[0], rows.device)
        decision, _ = policy.decide(row_statistics(rows), state)
        return decision.apply(rows)

    return apply


def families(thresholds: Thresholds | None = None) -> dict[str, Family]:
    """All samplers by name.

    Args:
        thresholds: of the policy quadrant; None = its own.
    """
    quadrant = Quadrant() if thresholds is None else Quadrant(thresholds=thresholds)
    return {
        f.name: f
        for f in (
            Family(name="min-p", make=lambda t: MinP(min_p=_small(t))),
            Family(name="top-p", make=lambda t: TopP(p=1 - t)),
            Family(name="typical", make=lambda t: Typical(mass=max(1 - t, _SMALLEST))),
            Family(name="epsilon", make=lambda t: Epsilon(epsilon=0.999 * _small(t))),
            Family(name="eta", make=lambda t: Eta(epsilon=0.999 * _small(t))),
            Family(name="top-n-sigma", make=lambda t: TopNSigma(n=_MOST_SIGMAS * max(1 - t, 1e-4))),
            Family(name="top-h", make=lambda t: TopH(h=1 - t)),
            Family(name="p-less", make=lambda _: PLess(), has_knob=False),
            Family(name="entmax", make=lambda t: EntmaxFilter(zeta=t)),
            Family(
                name="temperature",
                make=lambda t: Temperature(temperature=max(1 - t, _COLDEST)),
                cuts=False,
            ),
            Family(
                name="aes",
                make=lambda t: followed(AESPolicy(schedule=SmoothStep(zeta_max=t))),
                driven=True,
            ),
            Family(
                name="edt",
                make=lambda t: followed(EDT(temperature=1.0, theta=_MOST_THETA * t**2)),
                driven=True,
                cuts=False,
            ),
            Family(
                name="dynatemp",
                make=lambda t: followed(_dynatemp(t)),
                driven=True,
                cuts=False,
            ),
            Family(
                name="free-energy",
                make=lambda t: followed(
                    FreeEnergy(
                        target_entropy=_MOST_ENTROPY * (1 - t) ** 2, coldest=_COLDEST, hottest=1.0
                    )
                ),
                driven=True,
                cuts=False,
            ),
            Family(name="quadrant", make=lambda _: followed(quadrant), driven=True, has_knob=False),
        )
    }


def _dynatemp(t: float) -> DynaTemp:
    """A range of temperatures around 1 that widens to [0, 2], then shrinks to 0."""
    return DynaTemp(low=max(1 - 2 * t, 0.0), high=min(1 + 2 * t, 4 * (1 - t)))


def _small(t: float) -> float:
    """From 1e-7 to 1, evenly in the logarithm."""
    return exp((1 - t) * log(_SMALLEST))


def matched(strength: Callable[[float], float], target: float, tolerance: float) -> float | None:
    """The knob at which a rising strength is `target`, by bisection with secant steps.

    Args:
        strength: of a knob in [0, 1], rising but for noise.
        target: asked for.
        tolerance: on the strength.

    Returns:
        The knob, or None if even the strongest setting is weaker, or the weakest stronger.
    """
    low, high = 0.0, 1.0
    at_low, at_high = strength(low), strength(high)
    if not at_low <= target <= at_high:
        return None
    for step in range(40):
        # secant steps, every third a bisection: they stick where the strength bends
        share = (target - at_low) / (at_high - at_low) if at_high > at_low else 0.5
        middle = low + (high - low) * (0.5 if step % 3 == 2 else min(max(share, 0.02), 0.98))
        found = strength(middle)
        if abs(found - target) <= tolerance or high - low < 1e-9:
            return middle
        if found < target:
            low, at_low = middle, found
        else:
            high, at_high = middle, found
    return (low + high) / 2


def distance(p: Tensor, q: Tensor) -> Tensor:
    """Total variation distance of rows of probabilities."""
    apart: Tensor = (p - q).abs().sum(dim=-1)
    return apart / 2


def entropies(probs: Tensor) -> Tensor:
    """Entropies of rows of probabilities, nats."""
    total: Tensor = torch.special.entr(probs).sum(dim=-1)
    return total
