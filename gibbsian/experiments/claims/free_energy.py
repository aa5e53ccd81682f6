"""The free energy instead of the energy: identities, and samplers made of them against min-p."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.heads import missing_weights
from gibbsian.experiments.claims.intervals import Estimate, largest_of, resampled
from gibbsian.experiments.claims.next_tokens import (
    MODEL,
    POSITIONS,
    READ,
    WRITTEN,
    Passage,
    Window,
    passages,
    read_window,
)
from gibbsian.experiments.claims.parts import kept_part, report_progress
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.experiments.claims.samplers import Sampler, distance, entropies, followed, matched
from gibbsian.sampling.filters import Epsilon, MinP, Temperature
from gibbsian.sampling.policies import FreeEnergy
from gibbsian.statistics import gibbs_statistics

EXACT = 1e-9
"""Of an identity in float64, nats."""
DERIVED = 1e-6
"""Of a derivative taken by differences, nats."""
COLD = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Temperatures on the way to the ground state."""
SHARES = (0.8, 0.6, 0.4, 0.2)
"""Mean entropies that the samplers are set to, of the model's."""
SIZES = (5.0, 20.0, 100.0)
"""Mean numbers of tokens that the pools are set to."""
POOL, TARGET, CAP, MIN_P = "pool", "target entropy", "capped entropy", "min-p"
RIVAL = MIN_P
FREE = (POOL, TARGET, CAP)
CUTTING = (MIN_P, POOL, "epsilon")
SMOOTHING = 0.1
"""Share of the model's own distribution in the one that predicts: no token is impossible."""
RARE = 1e-3
"""A token that is less probable is called rare."""
OVER = "windows of text"
NEARBY = 1.08
"""Every sampler is also looked at where it leaves so much more, for the slope of its curve."""
_SMALLEST = 1e-7
_STEP = 1e-3

Knobs: TypeAlias = Mapping[str, Callable[[float], Sampler]]


def samplers() -> Knobs:
    """Samplers by a knob from strongest (0) to weakest (1): the entropy left rises with it."""
    return {
        MIN_P: lambda t: MinP(min_p=_SMALLEST**t),
        POOL: lambda t: followed(FreeEnergy(excess=_SMALLEST ** (t - 1) * 16e-7)),
        TARGET: lambda t: followed(FreeEnergy(target_entropy=10.0 * t**2, coldest=0.02)),
        CAP: lambda t: followed(FreeEnergy(target_entropy=11.0 * t**2, coldest=0.02, hottest=1.0)),
        "temperature": lambda t: Temperature(temperature=max(t, 0.02)),
    }


def pools() -> Knobs:
    """The samplers that cut, alike."""
    known = samplers()
    return {
        MIN_P: known[MIN_P],
        POOL: known[POOL],
        "epsilon": lambda t: Epsilon(epsilon=0.999 * _SMALLEST**t),
    }


def identities(logits: Float[Tensor, "rows states"]) -> dict[str, float]:
    """Largest violations over rows, in float64."""
    rows = logits.double()
    energy = -rows
    ground, at = energy.min(dim=-1)
    worst: dict[str, float] = {}
    for temperature in COLD:
        # by their definitions, and the potential by the library
        log_p = (-energy / temperature).log_softmax(dim=-1)
        probs = log_p.exp()
        internal = (probs * energy).sum(dim=-1)
        entropy = -(probs * log_p).sum(dim=-1)
        free = gibbs_statistics(rows, temperature=temperature).free_energy
        slope = _slope(rows, temperature)
        bound = temperature * np.log(rows.shape[-1])
        found = {
            "F - (U - T S)": (free - (internal - temperature * entropy)).abs().max(),
            "how far F lies outside [E₀ - T log n, E₀]": torch.maximum(
                free - ground, ground - bound - free
            ).max(),
            "S + dF/dT": (slope + entropy).abs().max(),
        }
        for name, value in found.items():
            worst[name] = max(worst.get(name, -np.inf), value.item())
        worst[f"E₀ - F at T = {temperature:g}"] = (ground - free).mean().item()
    best = probs.argmax(dim=-1)
    # several tokens may share the ground state
    same = energy.gather(-1, best[:, None])[:, 0] == energy.gather(-1, at[:, None])[:, 0]
    worst["share of rows whose optimum differs at T = 0.01"] = (~same).double().mean().item()
    return worst


def _slope(rows: Tensor, temperature: float) -> Tensor:
    """dF/dT by differences of the fourth order."""

    def free(shift: int) -> Tensor:
        at = temperature * (1 + shift * _STEP)
        return gibbs_statistics(rows, temperature=at).free_energy

    near, far = free(1) - free(-1), free(2) - free(-2)
    return (8 * near - far) / (12 * _STEP * temperature)


def looked_at(window: Window, sampler: Sampler) -> dict[str, list[float]]:
    """What a sampler leaves of each position, one number a row."""
    log_p = window.logits.log_softmax(dim=-1)
    probs = log_p.exp()
    left = sampler(window.logits)
    after = left.softmax(dim=-1)
    kept = left > -torch.inf
    rank = window.rank[:, None]
    mixed = (1 - SMOOTHING) * after.gather(1, rank) + SMOOTHING * probs.gather(1, rank)
    return {
        name: [float(v) for v in values]
        for name, values in {
            "entropy": entropies(after),
            "log p": (after * log_p).sum(dim=-1),
            "loss": -mixed[:, 0].log(),
            "covered": kept.gather(1, rank)[:, 0].float(),
            "size": kept.float().sum(dim=-1),
            "cut": (probs * ~kept).sum(dim=-1),
            "moved": distance(probs, after),
            "rare": (after * (probs < RARE)).sum(dim=-1),
        }.items()
    }


_POOLS = ("size", "cut")
"""What only samplers that cut have."""
_WORDS = {
    "log p": "expected log-probability under the model, nats",
    "loss": "held-out loss, nats",
    "covered": "share of true next tokens in the pool",
    "moved": "distance from the model's distribution",
    "cut": "probability cut",
    "rare": "probability of rare tokens",
    "size": "tokens left",
    "entropy": "entropy left, nats",
}


def on_the_curve(curve: np.ndarray, rival: np.ndarray) -> np.ndarray:
    """What a sampler has where it is as entropic (or large) as its rival, minus what the rival has.

    Args:
        curve: (..., 2, 2): two points (entropy, what) on the sampler's curve; a line joins them.
        rival: (..., 2): one of the rival's.
    """
    (x, y), (x_near, y_near) = (np.moveaxis(curve[..., i, :], -1, 0) for i in (0, 1))
    return np.asarray(y + (y_near - y) / (x_near - x) * (rival[..., 0] - x) - rival[..., 1])


def one(found: np.ndarray) -> Estimate:
    """The estimate in an array of one."""
    estimate: Estimate = found.item()
    return estimate


def measure(size: Size, seed: int) -> Measured:
    """Knobs set on one half of the windows, everything else on the other."""
    num_read, num_written, every = (8, 4, 16) if size == "quick" else (48, 16, 8)
    missing = missing_weights(MODEL)
    scale = (
        f"SmolLM2-135M-Instruct, {(num_read + num_written) * POSITIONS} positions in "
        f"{num_read} windows of Austen and {num_written} of {WRITTEN}; entropies and sizes set on "
        "every other window, the rest measured on the others (held-out losses and covered tokens: "
        f"Austen's); T = {', '.join(f'{t:g}' for t in COLD)}, float64, for the identities"
    )
    if missing:
        return Measured(numbers={}, scale=scale, missing=missing)
    found = passages(num_read, num_written, seed)
    tuning, held_out = found[0::2], found[1::2]
    total = len(held_out) + 1
    report_progress(0, total)
    knobs = kept_part("knobs", lambda: _knobs(tuning, every))
    windows = []
    for i, passage in enumerate(held_out):
        report_progress(i + 1, total)
        windows.append(kept_part(f"window-{i}", partial(_window, passage, knobs)))
    return _summarised(windows, knobs, scale, seed)


@torch.no_grad()
def _knobs(tuning: list[Passage], every: int) -> dict[str, Any]:
    rows = torch.cat([read_window(passage).logits[::every] for passage in tuning])
    mean = entropies(rows.softmax(dim=-1)).mean().item()

    def entropy(make: Callable[[float], Sampler], knob: float) -> float:
        return entropies(make(knob)(rows).softmax(dim=-1)).mean().item()

    def tokens(make: Callable[[float], Sampler], knob: float) -> float:
        return (make(knob)(rows) > -torch.inf).float().sum(dim=-1).mean().item()

    def solved(made: Knobs, of: Callable[..., float], target: float) -> dict[str, list[float]]:
        found = {}
        for name, make in made.items():
            aims = (target, NEARBY * target)
            pair = [matched(partial(of, make), aim, 0.01 * aim) for aim in aims]
            if all(knob is not None for knob in pair):
                found[name] = [knob for knob in pair if knob is not None]
        return found

    return {
        "entropy": mean,
        "entropies": {f"{s:g} S": solved(samplers(), entropy, s * mean) for s in SHARES},
        "sizes": {f"{size:g} tokens": solved(pools(), tokens, size) for size in SIZES},
    }


@torch.no_grad()
def _window(passage: Passage, knobs: Mapping[str, Any]) -> dict[str, Any]:
    window = read_window(passage)

    def all_of(made: Knobs, levels: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any]:
        return {
            level: {
                name: [looked_at(window, made[name](knob)) for knob in pair]
                for name, pair in chosen.items()
            }
            for level, chosen in levels.items()
        }

    return {
        "source": passage.source,
        "identities": identities(window.logits[::8]),
        "entropies": all_of(samplers(), knobs["entropies"]),
        "sizes": all_of(pools(), knobs["sizes"]),
    }


def _summarised(
    windows: list[dict[str, Any]], knobs: Mapping[str, Any], scale: str, seed: int
) -> Measured:
    numbers: dict[str, Estimate] = {}
    for name in windows[0]["identities"]:
        label = f"{name}, nats" if not name.startswith("share") else name
        numbers[label] = largest_of([w["identities"][name] for w in windows], OVER)
    read = [w for w in windows if w["source"] == READ]

    def means(chosen: list[dict[str, Any]], at: tuple[str, str, str, int], what: str) -> Any:
        kind, level, name, near = at
        return np.array([np.mean(w[kind][level][name][near][what]) for w in chosen])

    def evidence(what: str) -> list[dict[str, Any]]:
        # what follows in the model's own text is no evidence for another distribution
        return read if what in ("loss", "covered") else windows

    def difference(kind: str, level: str, name: str, what: str) -> Estimate:
        """At the rival's own entropy or size on these windows, which no knob set before meets."""
        axes = ("entropy" if kind == "entropies" else "size", what)
        points = [
            np.stack([means(evidence(what), (kind, level, n, near), x) for x in axes], axis=-1)
            for n, near in ((name, 0), (name, 1), (RIVAL, 0))
        ]
        blocks = (np.stack(points[:2], axis=1), points[2])
        return one(resampled(blocks, on_the_curve, seed, OVER))

    for kind, compared, shown in (
        ("entropies", ("log p", "loss"), ("moved", "size", "cut", "rare", "entropy")),
        ("sizes", ("covered",), ("cut",)),
    ):
        for level, chosen in knobs[kind].items():
            for name in chosen:
                for what in (*compared, *(x for x in shown if name in CUTTING or x not in _POOLS)):
                    label = f"{_WORDS[what]}, {name}, {level}"
                    found = means(evidence(what), (kind, level, name, 0), what)
                    numbers[label] = one(resampled((found,), np.asarray, seed, OVER))
                if name == RIVAL:
                    continue
                for what in compared:
                    label = f"{_WORDS[what]}, {name} minus {RIVAL}, {level}"
                    numbers[label] = difference(kind, level, name, what)
            for name in (n for n in (MIN_P, POOL) if n in chosen):
                worst = [max(w[kind][level][name][0]["cut"]) for w in windows]
                numbers[f"largest probability cut, {name}, {level}"] = largest_of(worst, OVER)
    return Measured(numbers=numbers, scale=scale, pictures=_pictures(numbers, knobs, windows))


def _pictures(
    numbers: Numbers, knobs: Mapping[str, Any], windows: list[dict[str, Any]]
) -> tuple[Picture, ...]:
    panels = []
    for what in ("log p", "loss", "moved", "rare"):
        series = []
        for name in samplers():
            levels = [level for level, chosen in knobs["entropies"].items() if name in chosen]
            values = [numbers[f"{_WORDS[what]}, {name}, {level}"] for level in levels]
            series.append(
                Series(
                    name=name,
                    x=floats(
                        numbers[f"{_WORDS['entropy']}, {name}, {level}"].value for level in levels
                    ),
                    y=floats(e.value for e in values),
                    low=floats(e.low for e in values),
                    high=floats(e.high for e in values),
                )
            )
        title, _, unit = _WORDS[what].partition(", ")
        panels.append(
            Panel(
                title=title,
                x_label="mean entropy left, nats",
                y_label=unit or "probability",
                series=tuple(s for s in series if s.x),
            )
        )
    quantiles = np.linspace(0, 1, 101)
    level = "0.6 S"
    cuts = tuple(
        Series(
            name=name,
            x=floats(quantiles),
            y=floats(
                np.quantile(
                    np.concatenate([w["entropies"][level][name][0]["cut"] for w in windows]),
                    quantiles,
                )
            ),
        )
        for name in (MIN_P, POOL)
        if name in knobs["entropies"][level]
    )
    return (
        Picture(
            name="entropy",
            caption="Samplers at equal mean entropy of what they leave: the three made of the free "
            "energy, min-p, and one temperature for all positions.",
            panels=tuple(panels),
        ),
        Picture(
            name="cut",
            caption="Probability that is cut, position by position, at 0.6 of the model's entropy: "
            "the pool's never exceeds what its free energy allows.",
            panels=(
                Panel(
                    title="probability cut",
                    x_label="quantile of the positions",
                    y_label="probability cut",
                    series=cuts,
                ),
            ),
        ),
    )


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    identity = max(
        numbers[f"{name}, nats"].high
        for name in ("F - (U - T S)", "how far F lies outside [E₀ - T log n, E₀]")
    )
    slope = numbers["S + dF/dT, nats"].high
    moved = numbers["share of rows whose optimum differs at T = 0.01"].high
    why = (
        f"F = U - T S and its bounds to {max(identity, 0.0):.1e} nats, S = -dF/dT to {slope:.1e}, "
        f"the same optimum as T -> 0 in all but {100 * moved:.3g} % of the rows."
    )
    if identity > EXACT or slope > DERIVED or moved > 0:
        return "does not hold", why
    worse, better, even = [], [], 0
    for what, sign in (("log p", 1), ("loss", -1), ("covered", 1)):
        for name in FREE:
            start = f"{_WORDS[what]}, {name} minus {RIVAL}, "
            found = [e for label, e in numbers.items() if label.startswith(start)]
            lost = [e.value for e in found if max(sign * e.low, sign * e.high) < 0]
            won = [e.value for e in found if min(sign * e.low, sign * e.high) > 0]
            even += len(found) - len(lost) - len(won)
            worse += _said(name, what, lost, len(found))
            better += _said(name, what, won, len(found))
    why += (
        f" Against min-p, worse: {', '.join(worse) or 'never'}; better: "
        f"{', '.join(better) or 'never'}; {even} comparisons without a difference."
    )
    return ("holds with a correction" if worse else "holds"), why


def _said(name: str, what: str, differences: list[float], of: int) -> list[str]:
    """One entry for all levels of a comparison, or none."""
    if not differences:
        return []
    low, high = min(differences), max(differences)
    span = f"{low:+.3f}" if len(differences) == 1 else f"{low:+.3f} to {high:+.3f}"
    return [f"{name} in {what} ({span}; {len(differences)} of {of} levels)"]


RULE = (
    "Does not hold unless, on every row and at every T, F = U - T S and E_0 - T log n <= F <= E_0 "
    "within 1e-9 nats, S = -dF/dT within 1e-6, and the most probable token at T = 0.01 is one of "
    "least energy. Holds if besides no sampler made of the free energy (pool, target entropy, "
    "capped entropy) is worse than min-p at any level: in expected log-probability under the model "
    "and in held-out loss at equal mean entropy, or, for the pool, in true next tokens covered at "
    "equal mean size. Worse: the interval of the paired difference lies on that side of 0, "
    "one by one, without a correction for the 27 comparisons. With a correction if the "
    "identities hold but a sampler is worse somewhere: then they are true, and no reason to prefer "
    "it."
)

CLAIM = Claim(
    id="S1",
    statement="The free energy instead of the energy: the same optimum, and it tells the entropy",
    source="Entropic LLMs note",
    how="Identities on real next-token scores; samplers made of the free energy against min-p at "
    "equal mean entropy, exactly (nothing is drawn); bootstrap over windows.",
    rule=RULE,
    paper="Stated in words.",
    measure=measure,
    judge=judge,
)
