r"""The partition function generates the n-point correlators; so does the deformed potential.

Correlators of an observable a of the states under a row: with a source $\xi$ coupled to a,
$Z(\xi) = \sum_j e^{x_j + \xi a_j}$ and $\Phi_\zeta(x + \xi a)$. The derivatives here are automatic
ones; the correlators, from the weights alone, are those of `gibbsian.observables.correlators`.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.intervals import largest_of, mean_of
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.normalizers import entmax
from gibbsian.normalizers.potential import potential
from gibbsian.observables.correlators import connected_correlator, correlator

IDENTITY = 1e-9
DIFFERENCES = 1e-4
"""Relative: derivatives of the deformed potential are taken by differences where it has only
three."""
ZETAS = (0.1, 0.3, 0.5)
ORDERS = (1, 2, 3, 4)


def derivatives(function: Callable[[Tensor], Tensor], count: int) -> list[Tensor]:
    """Of a scalar function at 0, by repeated automatic differentiation."""
    xi = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value = function(xi)
    found = []
    for _ in range(count):
        (value,) = torch.autograd.grad(value, xi, create_graph=True)
        found.append(value)
    return found


def plain_derivatives(scores: Tensor, observable: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Four derivatives of Z, and of log Z."""
    return (
        derivatives(lambda xi: (scores + xi * observable).exp().sum(), max(ORDERS)),
        derivatives(lambda xi: (scores + xi * observable).logsumexp(-1), max(ORDERS)),
    )


def deformed_derivatives(scores: Tensor, observable: Tensor, zeta: float) -> list[Tensor]:
    """Three derivatives of the potential, the fourth by a fourth-order difference of the third.

    The potential is smooth only as long as no state enters or leaves the support: the step stays
    well within that stretch.
    """

    def at(offset: float) -> list[Tensor]:
        return derivatives(
            lambda xi: potential(scores + (offset + xi) * observable, zeta), max(ORDERS) - 1
        )

    p = entmax(scores, zeta)
    # distance of each score from the edge of the support, c - 1/zeta; any kept state tells c
    kept = int(p.argmax())
    edge = scores[kept] - p[kept] ** zeta / zeta
    margin = ((scores - edge).abs() / (observable - observable.mean()).abs().max()).min()
    step = min(1e-3, 0.05 * float(margin))
    third = {k: at(k * step)[2] for k in (-2, -1, 1, 2)}
    fourth = (third[-2] - 8 * third[-1] + 8 * third[1] - third[2]) / (12 * step)
    return [*at(0.0), fourth]


def _relative(found: Tensor, expected: Tensor, size: Tensor) -> float:
    # a row with all its weight on one state has correlators of exactly 0
    scale = torch.maximum(expected.abs(), size).clamp_min(torch.finfo(size.dtype).tiny)
    return ((found - expected).abs() / scale).item()


def measure(size: Size, seed: int) -> Measured:
    """Random rows and observables."""
    seeds, states = (4, (8, 64)) if size == "quick" else (10, (8, 64, 512))
    numbers: dict[str, list[float]] = {}

    def note(name: str, error: float) -> None:
        numbers.setdefault(name, []).append(error)

    for i, count in product(range(seeds), states):
        generator = torch.Generator().manual_seed(seed + 1000 * count + i)
        scores, a = torch.randn(2, count, generator=generator, dtype=torch.float64)
        spread = connected_correlator(scores, a, a).sqrt()
        full, connected = plain_derivatives(scores, a)
        z = scores.exp().sum()
        for n, dz, dlog in zip(ORDERS, full, connected, strict=True):
            moment, cumulant = correlator(scores, *[a] * n), connected_correlator(scores, *[a] * n)
            note(f"{n}-point, Z", _relative(dz / z, moment, spread**n))
            note(f"{n}-point connected, log Z", _relative(dlog, cumulant, spread**n))
        for zeta in ZETAS:
            slopes = deformed_derivatives(scores, a, zeta)
            size_of = connected_correlator(scores, a, a, zeta=zeta).sqrt()
            for n, d in zip(ORDERS, slopes, strict=True):
                w = connected_correlator(scores, *[a] * n, zeta=zeta)
                note(f"{n}-point connected, potential at zeta > 0", _relative(d, w, size_of**n))
            plain = entmax(scores, zeta)
            naive = (plain * a**2).sum() - (plain * a).sum() ** 2
            note("2-point by plain weights at zeta > 0", _relative(naive, slopes[1], slopes[1] * 0))
    found = {f"relative error of {name}": largest_of(v) for name, v in numbers.items()}
    name = "2-point by plain weights at zeta > 0"
    found[f"relative error of {name}"] = mean_of(numbers[name])
    return Measured(
        numbers=found,
        scale=f"{seeds} seeds of random rows of {', '.join(map(str, states))} states; zeta = 0, "
        f"{', '.join(map(str, ZETAS))}; float64",
        pictures=(_picture(found),),
    )


def _picture(found: Numbers) -> Picture:
    kinds = {
        "Z, all": "{}-point, Z",
        "log Z, connected": "{}-point connected, log Z",
        "deformed potential, connected": "{}-point connected, potential at zeta > 0",
    }
    return Picture(
        name="orders",
        caption="Largest relative difference of derivatives in the source from correlators.",
        panels=(
            Panel(
                title="n-point functions",
                x_label="order n",
                y_label="relative difference",
                y_scale="log",
                series=tuple(
                    Series(
                        name=name,
                        x=floats(ORDERS),
                        y=floats(
                            max(found[f"relative error of {key.format(n)}"].value, 1e-18)
                            for n in ORDERS
                        ),
                        style="points",
                    )
                    for name, key in kinds.items()
                ),
            ),
        ),
    )


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""

    def worst(key: str) -> float:
        return max(v.value for name, v in numbers.items() if name.endswith(key))

    plain = max(worst("-point, Z"), worst("log Z"))
    deformed = worst("potential at zeta > 0")
    said = f"Z and log Z to {plain:.1e}, the deformed potential to {deformed:.1e} (relative)"
    if plain >= IDENTITY:
        return "does not hold", f"Derivatives differ from the correlators: {said}."
    if deformed >= DIFFERENCES:
        return "holds with a correction", f"For the Shannon case only: {said}."
    return "holds", f"Up to fourth order the derivatives are the correlators: {said}."


RULE = (
    "Holds if derivatives of Z and log Z in the source equal the moments and the cumulants to "
    "fourth order within 1e-9, and those of the deformed potential the connected correlators by "
    "escort weights within 1e-4 (its fourth derivative is a difference). With a correction if only "
    "the undeformed part does. Otherwise it does not hold."
)

CLAIM = Claim(
    id="E1",
    statement="The partition function generates the n-point correlators of a row",
    source="EBM101",
    how="Automatic derivatives in a source field against correlators from the weights, orders 1 to "
    "4, zeta = 0 and above.",
    rule=RULE,
    paper="Stated as an identity, for zeta = 0; the deformed form is this package's.",
    measure=measure,
    judge=judge,
)
