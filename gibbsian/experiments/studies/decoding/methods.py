"""The methods that are compared: each a policy with one strength."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gibbsian.normalizers.schedules import SmoothStep
from gibbsian.sampling import Thresholds
from gibbsian.sampling.policies import (
    EDT,
    Adaptive,
    AESPolicy,
    DynaTemp,
    Fixed,
    FreeEnergy,
    Mirostat,
    Policy,
    Quadrant,
)

GREEDY = "greedy"
TOP_P, MIN_P = 0.9, 0.1
"""Usual values; the temperature is what is tuned beside them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A family of policies with one parameter."""

    name: str
    """In results and tables."""
    strength: str
    """What the parameter is."""
    range: tuple[float, float]
    """Where settings are looked for, from the lowest entropy to the highest."""
    policy: Callable[[float, Thresholds], Policy]
    """The policy of a strength, for a model with these thresholds."""
    entropic: bool = True
    """Whether entropy, varentropy or surprisal drives it; else it is a baseline."""

    def grid(self, count: int) -> list[float]:
        """Strengths at equal ratios over the range."""
        return [float(value) for value in np.geomspace(*self.range, count)]


def _quadrant(strength: float, thresholds: Thresholds) -> Quadrant:
    default = Quadrant()
    return Quadrant(
        thresholds=thresholds,
        temperature=strength,
        mist_temperature=strength * default.mist_temperature / default.temperature,
        adaptive=Adaptive(temperature=strength),
    )


METHODS: tuple[Method, ...] = (
    Method(
        name="temperature",
        strength="T",
        range=(0.15, 1.3),
        policy=lambda t, _: Fixed(temperature=t),
        entropic=False,
    ),
    Method(
        name="top-p",
        strength=f"T, with p = {TOP_P}",
        range=(0.15, 2.5),
        policy=lambda t, _: Fixed(temperature=t, top_p=TOP_P),
        entropic=False,
    ),
    Method(
        name="min-p",
        strength=f"T, with min-p = {MIN_P}",
        range=(0.15, 4.0),
        policy=lambda t, _: Fixed(temperature=t, min_p=MIN_P),
        entropic=False,
    ),
    Method(
        name="edt",
        strength="T0, with theta = 0.5 nats, N = 0.8",
        range=(0.15, 2.5),
        policy=lambda t, _: EDT(temperature=t),
    ),
    Method(
        name="dynatemp",
        strength="t, with T from t/2 to 3t/2",
        range=(0.15, 2.5),
        policy=lambda t, _: DynaTemp(low=t / 2, high=3 * t / 2),
    ),
    Method(
        name="quadrant",
        strength="T of all branches, thresholds calibrated",
        range=(0.1, 5.0),
        policy=_quadrant,
    ),
    Method(
        name="adaptive",
        strength="T0",
        range=(0.1, 8.0),
        policy=lambda t, _: Adaptive(temperature=t),
    ),
    Method(
        name="aes",
        strength="largest zeta of a smoothstep",
        range=(1.0, 0.01),
        policy=lambda zeta, _: AESPolicy(schedule=SmoothStep(zeta_max=zeta)),
    ),
    Method(
        name="free-energy",
        strength="target entropy, nats, with T at most 1",
        range=(0.01, 5.0),
        policy=lambda target, _: FreeEnergy(target_entropy=target, hottest=1.0),
    ),
    Method(
        name="mirostat",
        strength="target surprisal, nats",
        range=(0.03, 6.0),
        policy=lambda target, _: Mirostat(target=target),
    ),
)

BASELINES: tuple[str, ...] = (GREEDY, *(m.name for m in METHODS if not m.entropic))
ENTROPIC: tuple[str, ...] = tuple(m.name for m in METHODS if m.entropic)


def by_name(name: str) -> Method:
    """The method of that name; greedy has no strength and is none of them."""
    return next(method for method in METHODS if method.name == name)


def at_entropy(
    strengths: Sequence[float], entropies: Sequence[float], target: float
) -> tuple[float, bool]:
    """The strength at which the entropy is `target`, and whether the given ones reach it.

    Linear in the logarithm of the strength between neighbours in entropy; the nearest end where
    the target lies outside.
    """
    order = np.argsort(entropies)
    ordered, levels = np.log(np.asarray(strengths)[order]), np.asarray(entropies)[order]
    reached = bool(levels[0] <= target <= levels[-1])
    return float(np.exp(np.interp(target, levels, ordered))), reached
