"""Which samplers are redundant beside which: measured on a language model's own distributions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.composition import composition
from gibbsian.experiments.claims.heads import missing_weights
from gibbsian.experiments.claims.intervals import Estimate, resampled
from gibbsian.experiments.claims.next_tokens import (
    MODEL,
    POSITIONS,
    READ,
    WRITTEN,
    Passage,
    passages,
    read_window,
)
from gibbsian.experiments.claims.parts import kept_part, report_progress
from gibbsian.experiments.claims.picture import Grid, Panel, Picture, Series, floats
from gibbsian.experiments.claims.samplers import (
    Family,
    distance,
    families,
    matched,
)
from gibbsian.sampling.calibration import calibrate
from gibbsian.sampling.thresholds import Thresholds
from gibbsian.statistics import row_statistics

WEAK = "effect 0.1"
LEVELS = (WEAK, "as quadrant", "as p-less")
"""Strengths: a fixed effect, and the effects of the two samplers that have no knob."""
RIVALS = ("min-p", "top-p", "typical")
"""What the entropy-driven policies are held against."""
POLICIES = ("aes", "edt", "dynatemp", "free-energy", "quadrant")
NEARLY = 0.8
"""Redundancy from which on a sampler is called redundant."""
OVER = "windows of text"
_TOLERANCE = 0.005
"""Relative, on the effect."""


def measure(size: Size, seed: int) -> Measured:
    """Samplers set to equal strength on one half of the windows, compared on the other."""
    num_read, num_written, every = (8, 4, 16) if size == "quick" else (48, 16, 4)
    missing = missing_weights(MODEL)
    scale = (
        f"SmolLM2-135M-Instruct, {(num_read + num_written) * POSITIONS} positions in "
        f"{num_read} windows of Austen and {num_written} of {WRITTEN} (drawn at temperature 1); "
        "strengths set on every other window, and everything else measured on the others; whole "
        "vocabulary of 49152 tokens, nothing drawn"
    )
    if missing:
        return Measured(numbers={}, scale=scale, missing=missing)
    found = passages(num_read, num_written, seed)
    tuning, held_out = found[0::2], found[1::2]
    total = len(held_out) + 1
    report_progress(0, total)
    sample, thresholds = calibration_rows(tuning, every)
    known = families(Thresholds.from_config(thresholds))
    knobs = kept_part("strengths", lambda: strengths(sample, known))
    windows = []
    for i, passage in enumerate(held_out):
        report_progress(i + 1, total)
        windows.append(kept_part(f"window-{i}", partial(_compare, passage, known, knobs["levels"])))
    return _summarised(windows, knobs, scale, seed, known)


def calibration_rows(
    tuning: list[Passage], every: int
) -> tuple[Float[Tensor, "rows states"], dict[str, Any]]:
    """Some rows of the windows for tuning, and the thresholds of the quadrants on all of them."""
    rows, entropy, varentropy = [], [], []
    for passage in tuning:
        logits = read_window(passage).logits
        statistics = row_statistics(logits)
        entropy.append(statistics.entropy)
        varentropy.append(statistics.varentropy)
        rows.append(logits[::every].clone())
    found = calibrate(torch.cat(entropy), torch.cat(varentropy), model=MODEL, text="half")
    return torch.cat(rows), found.thresholds.to_config()


@torch.no_grad()
def strengths(sample: Float[Tensor, "rows states"], known: Mapping[str, Family]) -> dict[str, Any]:
    """Knobs of equal mean effect on the sample, for each level; families that cannot, left out."""
    whole = sample.softmax(dim=-1)

    def effect_of(family: Family) -> Callable[[float], float]:
        def effect(knob: float) -> float:
            if knob not in seen:
                left = family.make(knob)(sample).softmax(dim=-1)
                seen[knob] = distance(whole, left).mean().item()
            return seen[knob]

        seen: dict[float, float] = {}
        return effect

    effects = {name: effect_of(family) for name, family in known.items()}
    targets = {
        WEAK: 0.1,
        "as quadrant": effects["quadrant"](0.0),
        "as p-less": effects["p-less"](0.0),
    }
    levels: dict[str, dict[str, float]] = {level: {} for level in LEVELS}
    for name, family in known.items():
        for level, target in targets.items():
            if family.has_knob:
                knob = matched(effects[name], target, _TOLERANCE * target)
            else:
                knob = 0.0 if level == f"as {name}" else None
            if knob is not None:
                levels[level][name] = knob
    return {"targets": targets, "levels": levels}


def _compare(
    passage: Passage, known: Mapping[str, Family], levels: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    logits = read_window(passage).logits
    return {
        "source": passage.source,
        "levels": {
            level: composition(
                logits, {name: known[name].make(knob) for name, knob in knobs.items()}
            )._asdict()
            for level, knobs in levels.items()
        },
    }


def redundancy(after: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """1 - mean TV(A p, B A p) / mean TV(p, B p) from means over windows, [A][B]."""
    return np.asarray(1 - after / effect[..., None, :])


def agreement(between: np.ndarray, effect: np.ndarray) -> np.ndarray:
    """1 - mean TV(A p, B p) / (mean TV(p, A p) + mean TV(p, B p)): 1 = the same sampler."""
    return np.asarray(1 - between / (effect[..., :, None] + effect[..., None, :]))


def _summarised(
    windows: list[dict[str, Any]],
    knobs: Mapping[str, Any],
    scale: str,
    seed: int,
    known: Mapping[str, Family],
) -> Measured:
    numbers: dict[str, Estimate] = {}
    pictures: list[Picture] = []
    matrices: dict[str, list[Grid]] = {"redundancy": [], "agreement": [], "pools": []}
    by_level: dict[str, list[tuple[str, Estimate, Estimate]]] = {}
    for level in LEVELS:
        names = list(knobs["levels"][level])

        def table(
            key: str, level: str = level, chosen: list[dict[str, Any]] = windows
        ) -> np.ndarray:
            return np.array([w["levels"][level][key] for w in chosen])

        effect, after, between, overlap = map(table, ("effect", "after", "between", "overlap"))
        redundant = resampled((after, effect), redundancy, seed, OVER)
        agreeing = resampled((between, effect), agreement, seed, OVER)
        pools = resampled((overlap,), np.asarray, seed, OVER)
        alone = resampled((effect,), np.asarray, seed, OVER)
        left = resampled((table("entropy"),), np.asarray, seed, OVER)
        kept = resampled((table("kept"),), np.asarray, seed, OVER)
        at = {name: i for i, name in enumerate(names)}
        for name, i in at.items():
            numbers[f"effect, {name}, {level}"] = alone[i]
            numbers[f"entropy left, nats, {name}, {level}"] = left[i]
            if known[name].cuts:
                numbers[f"tokens left, {name}, {level}"] = kept[i]
        for policy in (p for p in POLICIES if p in at):
            for rival in RIVALS:
                a, b = at[rival], at[policy]
                numbers[f"redundancy of {policy} given {rival}, {level}"] = redundant[a, b]
                numbers[f"redundancy of {rival} given {policy}, {level}"] = redundant[b, a]
                numbers[f"agreement of {policy} and {rival}, {level}"] = agreeing[a, b]
            by_level.setdefault(level, []).append(
                (policy, redundant[at["min-p"], at[policy]], redundant[at[policy], at["min-p"]])
            )
        for name in (n for n in names if n not in POLICIES and n != "min-p"):
            numbers[f"redundancy of {name} given min-p, {level}"] = redundant[at["min-p"], at[name]]
            numbers[f"redundancy of min-p given {name}, {level}"] = redundant[at[name], at["min-p"]]
        for source in (READ, WRITTEN):
            chosen = [w for w in windows if w["source"] == source]
            own = resampled(
                (table("after", chosen=chosen), table("effect", chosen=chosen)),
                redundancy,
                seed,
                OVER,
            )
            for policy in (p for p in POLICIES if p in at):
                a, b = at["min-p"], at[policy]
                numbers[f"redundancy of {policy} given min-p, {level}, {source} only"] = own[a, b]
                numbers[f"redundancy of min-p given {policy}, {level}, {source} only"] = own[b, a]
        cutting = [n for n in names if known[n].cuts]
        matrices["redundancy"].append(_grid(level, names, redundant, at))
        matrices["agreement"].append(_grid(level, names, agreeing, at))
        matrices["pools"].append(_grid(level, cutting, pools, at))
    pictures.append(_rivals(by_level))
    captions = {
        "redundancy": "Redundancy of the column given the row: 1 = it changes nothing any more, 0 "
        "= as much as alone. On the diagonal, a sampler after itself. Samplers of equal mean "
        "effect.",
        "agreement": "How near what two samplers leave is, for their strength: 1 = they leave the "
        "same, 0 = as far apart as they can be.",
        "pools": "Overlap of the pools: tokens that both keep over tokens that one keeps, mean "
        "over positions. Only samplers that cut.",
    }
    pictures += [
        Picture(name=name, caption=captions[name], panels=tuple(grids))
        for name, grids in matrices.items()
    ]
    return Measured(numbers=numbers, scale=scale, pictures=tuple(pictures))


def _grid(level: str, names: list[str], found: np.ndarray, at: Mapping[str, int]) -> Grid:
    index = [at[name] for name in names]

    def cells(field: str) -> tuple[tuple[float, ...], ...]:
        return tuple(floats((getattr(found[i, j], field) for j in index), 4) for i in index)

    return Grid(
        title=level,
        x_label="second",
        y_label="first",
        rows=tuple(names),
        columns=tuple(names),
        values=cells("value"),
        low=cells("low"),
        high=cells("high"),
    )


def _rivals(by_level: Mapping[str, list[tuple[str, Estimate, Estimate]]]) -> Picture:
    panels = []
    for level, rows in by_level.items():
        series = []
        for name, k in (("the policy, given min-p", 1), ("min-p, given the policy", 2)):
            estimates: list[Any] = [row[k] for row in rows]
            series.append(
                Series(
                    name=name,
                    x=floats(POLICIES.index(row[0]) + 0.16 * (k - 1.5) for row in rows),
                    y=floats(e.value for e in estimates),
                    low=floats(e.low for e in estimates),
                    high=floats(e.high for e in estimates),
                    style="points",
                )
            )
        series.append(
            Series(
                name="redundant from here on",
                x=(-0.4, len(POLICIES) - 0.6),
                y=(NEARLY, NEARLY),
                style="dashed",
            )
        )
        panels.append(
            Panel(
                title=level,
                x_label="",
                y_label="redundancy",
                series=tuple(series),
                x_ticks=POLICIES,
            )
        )
    return Picture(
        name="min-p",
        caption="Entropy-driven policies and min-p, at equal mean effect: what is left for the "
        "second to do, with intervals. A policy that is missing cannot be so strong.",
        panels=tuple(panels),
    )


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    found: dict[str, list[tuple[str, Estimate, Estimate]]] = {}
    for policy in POLICIES:
        for level in LEVELS:
            name = f"redundancy of {policy} given min-p, {level}"
            if name in numbers:
                back = numbers[f"redundancy of min-p given {policy}, {level}"]
                found.setdefault(policy, []).append((level, numbers[name], back))
    after = {p: all(there.low >= NEARLY for _, there, _ in rows) for p, rows in found.items()}
    before = {p: all(back.low >= NEARLY for _, _, back in rows) for p, rows in found.items()}
    said = "; ".join(
        f"{policy} given min-p {_span([r[1] for r in rows])}, "
        f"min-p given {policy} {_span([r[2] for r in rows])}"
        for policy, rows in found.items()
    )
    why = f"Redundancy over strengths: {said}."
    both = [p for p in found if after[p] and before[p]]
    if len(both) == len(found):
        return "holds", why
    if both or all(after.values()) or all(before.values()):
        only = f"{', '.join(both)} and min-p are redundant" if both else "in one direction only"
        return "holds with a correction", f"{why} So: {only}."
    return "does not hold", why


def _span(estimates: list[Estimate]) -> str:
    low, high = min(e.low for e in estimates), max(e.high for e in estimates)
    values = [e.value for e in estimates]
    return f"{min(values):.2f} to {max(values):.2f} [{low:.2f}, {high:.2f}]"


RULE = (
    "With samplers set to equal mean effect: holds if each of the entropy-driven policies that are "
    f"measured ({', '.join(POLICIES)}; adaptive, which chooses among candidates, and mirostat, "
    f"which remembers, are left out) has a redundancy of at least {NEARLY} given min-p, and min-p "
    "given it, at every strength that both can have. "
    "With a correction if that is so of at least one policy, or of all of them in the same one of "
    "the two directions. Otherwise it does not hold. Lower ends of the intervals throughout."
)

CLAIM = Claim(
    id="S2",
    statement="Entropy-driven sampling and min-p are redundant",
    source="Witten and Boltzmann",
    how="Exact distributions: how far each sampler goes from what another has left, over how far "
    "it goes alone (total variation), all set to equal mean effect; bootstrap over windows.",
    rule=RULE,
    paper="Stated in words: nearly redundant.",
    measure=measure,
    judge=judge,
)
