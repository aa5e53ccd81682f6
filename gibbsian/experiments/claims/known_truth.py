"""What samplers gain on models of a known source, by how far the model is from the truth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.imperfect import (
    COUNTS,
    DECODER,
    KINDS,
    LENGTH,
    NOISE,
    SCATTER,
    SHARES,
    SPREADS,
    counted,
    mixed,
    scattered,
    trained,
)
from gibbsian.experiments.claims.intervals import (
    Estimate,
    rank_correlation,
    resampled,
)
from gibbsian.experiments.claims.parts import kept_part, report_progress
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.experiments.claims.samplers import Family, families
from gibbsian.experiments.claims.truths import SOURCES, TOKENS, Array, Source
from gibbsian.sampling.calibration import calibrate
from gibbsian.sampling.filters import Temperature
from gibbsian.sampling.thresholds import Thresholds
from gibbsian.statistics import row_statistics

KNOBS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.58, 0.65, 0.72, 0.8, 0.9)
"""Settings that every sampler is tuned over; at 0 it does nothing."""
MEASURES = ("reverse KL", "total variation", "Jensen-Shannon", "cross entropy")
"""Of what is sampled against the truth; the last is no distance: a greedy sampler is best in it."""
JUDGED = ("reverse KL", "total variation")
DRIVEN, PLAIN = "entropy-driven", "fixed"
"""The best sampler of those that follow the entropy, and of the others."""
FALLEN = 0.1
"""Of the largest benefit."""
SEEN = {"reverse KL": 0.005, "total variation": 0.002}
"""A benefit below it is none."""
OVER = "sources"
DEFAULTS = {"min-p": 0.83, "aes": 0.5, "edt": 0.11}
"""Settings that nobody tunes: min_p about 0.07, zeta up to 0.5, theta about 0.5."""
SKIPPED = 8
"""First tokens of a text, which are not looked at."""

_NOTHING = 1e-7
_SHOWN = "reverse KL"
_ENDS = (("poorest", 0), ("best", -1))
_STEPS = {"quick": (0, 10, 40), "full": (0, 25, 50, 100, 200, 400, 800)}
_TEXTS = {"quick": (10, 100, 1000), "full": (10, 100, 300, 1000, 3000, 10000)}

Found: TypeAlias = dict[str, Any]


def samplers(thresholds: Thresholds | None = None) -> dict[str, Family]:
    """Those of equal strength, and a temperature above 1: some entropy-driven ones heat too."""
    heating = Family(name="heating", make=lambda t: Temperature(temperature=1 + t), cuts=False)
    return families(thresholds) | {heating.name: heating}


def divergences(truth: Tensor, sampled: Tensor) -> dict[str, Tensor]:
    """How far sampled distributions are from the truth, row by row.

    The divergence of the truth from what is sampled is infinite as soon as a token is cut: it asks
    for an average over what the truth says, of which a part is never said. The reverse one asks for
    an average over what is said.
    """
    middle = (truth + sampled) / 2
    log_truth = truth.log()
    cross = -(sampled * log_truth).sum(dim=-1)
    inner = torch.special.xlogy(sampled, sampled).sum(dim=-1)
    own = (truth * log_truth).sum(dim=-1)
    average = (middle * middle.log()).sum(dim=-1)
    return {
        "reverse KL": cross + inner,
        "total variation": (truth - sampled).abs().sum(dim=-1) / 2,
        "Jensen-Shannon": (own + inner) / 2 - average,
        "cross entropy": cross,
    }


@torch.no_grad()
def benefits(truth: Array, model: Array) -> Found:
    """What the best setting of every sampler takes off each divergence.

    The setting is the one that takes off most on the first half of the rows; what it takes off is
    measured on the second.

    Args:
        truth: (rows, tokens).
        model: (rows, tokens), positive.

    Returns:
        "KL" of the truth from the model, "of model" by measure, "benefit" by measure and sampler,
        "default" the same of settings that were not tuned.
    """
    right, given = torch.from_numpy(truth), torch.from_numpy(model)
    half = len(right) // 2
    logits = given.log()
    base = divergences(right, given)
    statistics = row_statistics(logits[:half])
    known = samplers(calibrate(statistics, model="model", text="first half").thresholds)
    gains: dict[str, dict[str, list[tuple[float, float]]]] = {m: {} for m in MEASURES}
    default: dict[str, dict[str, float]] = {m: {} for m in MEASURES}
    for name, family in known.items():
        for knob in KNOBS if family.has_knob else (0.0,):
            for measure, gain in _gains(right, logits, base, family.make(knob)).items():
                both = (gain[:half].mean().item(), gain[half:].mean().item())
                gains[measure].setdefault(name, [(0.0, 0.0)]).append(both)
        if name in DEFAULTS:
            for measure, gain in _gains(right, logits, base, family.make(DEFAULTS[name])).items():
                default[measure][name] = gain[half:].mean().item()
    groups = {
        DRIVEN: [n for n, f in known.items() if f.driven],
        PLAIN: [n for n, f in known.items() if not f.driven],
    }
    best = {
        measure: {name: _tuned(pairs) for name, pairs in of.items()}
        | {group: _tuned([p for n in names for p in of[n]]) for group, names in groups.items()}
        for measure, of in gains.items()
    }
    return {
        "KL": torch.special.xlogy(right, right / given)[half:].sum(dim=-1).mean().item(),
        "of model": {measure: base[measure][half:].mean().item() for measure in MEASURES},
        "benefit": best,
        "default": default,
    }


def _tuned(pairs: Sequence[tuple[float, float]]) -> float:
    """The second number of the pair with the largest first; of several the first pair's."""
    return max(pairs, key=itemgetter(0))[1]


def _gains(
    truth: Tensor, logits: Tensor, base: Mapping[str, Tensor], sampler: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    after = divergences(truth, sampler(logits).softmax(dim=-1))
    return {measure: base[measure] - after[measure] for measure in MEASURES}


def models(
    source: Source, read: Array, truth: Array, size: Size, seed: int
) -> Iterator[tuple[str, Array]]:
    """Kind and next-token distributions on `read` of every model of a source, poor ones first."""
    rng = np.random.default_rng([5, seed])
    # every third level is enough to see it run
    every = 3 if size == "quick" else 1
    for share in SHARES[::every]:
        yield NOISE, mixed(truth, share)
    for spread in SPREADS[::every]:
        yield SCATTER, scattered(truth, spread, rng)
    texts = source.texts(max(_TEXTS[size]), LENGTH, rng)[0]
    for count in _TEXTS[size]:
        yield COUNTS, counted(texts[:count], read)
    for found in trained(source, read, _STEPS[size], seed):
        yield DECODER, found


def _looked_at(number: int, size: Size, seed: int) -> list[list[Any]]:
    """Kind and benefits of every model of one source."""
    source = SOURCES[number](seed)
    count = 24 if size == "quick" else 48
    read, truth = source.texts(count, LENGTH, np.random.default_rng([6, seed]))
    rows = truth[:, SKIPPED:].reshape(-1, TOKENS)
    return [
        [kind, benefits(rows, model[:, SKIPPED:].reshape(-1, TOKENS))]
        for kind, model in models(source, read, truth, size, seed)
    ]


def measure(size: Size, seed: int) -> Measured:
    """Three kinds of sources, several of each, models of each from poor to good."""
    copies = 1 if size == "quick" else 3
    runs: list[tuple[str, dict[str, list[Found]]]] = []
    total = copies * len(SOURCES)
    for copy in range(copies):
        for number, kind in enumerate(SOURCES):
            report_progress(len(runs), total)
            name = f"source-{number}-{copy}"
            found = kept_part(name, partial(_looked_at, number, size, seed + copy))
            by_kind: dict[str, list[Found]] = {k: [] for k in KINDS}
            for of, model in found:
                by_kind[of].append(model)
            for rows in by_kind.values():
                rows.sort(key=lambda model: -model["KL"])
            runs.append((kind.name, by_kind))
    scale = (
        f"{copies} random sources of each kind ({', '.join(s.name for s in SOURCES)}), {TOKENS} "
        f"tokens; {len(KINDS)} kinds of models; settings tuned on one half of the texts "
        f"({len(KNOBS)} of each sampler), benefits measured on the other; nothing drawn; float64"
    )
    return Measured(numbers=_numbers(runs, seed), scale=scale, pictures=_pictures(runs))


def _numbers(runs: list[tuple[str, dict[str, list[Found]]]], seed: int) -> dict[str, Estimate]:
    numbers: dict[str, Estimate] = {}
    for kind in KINDS:
        models = [run[kind] for _, run in runs]
        for end, at in _ENDS:
            found = [rows[at]["KL"] for rows in models]
            numbers[f"KL of the {end} model, nats, {kind}"] = _mean(found, seed)
        for m in MEASURES:
            for group in (DRIVEN, PLAIN):
                of = f"{group}, {m}, {kind}"
                numbers |= _fall(of, [_curve(rows, m, group) for rows in models], models, seed)
                if m != "cross entropy":
                    numbers |= _shares_left(of, [_shares(rows, m, group) for rows in models], seed)
        for m in JUDGED:
            of = f"{m}, {kind}"
            numbers[f"entropy-driven minus fixed, largest benefits, {of}"] = _mean(
                [max(_curve(rows, m, DRIVEN)) - max(_curve(rows, m, PLAIN)) for rows in models],
                seed,
            )
            for name in DEFAULTS:
                for end, at in _ENDS:
                    numbers[f"benefit of {name} untuned at the {end} model, {of}"] = _mean(
                        [rows[at]["default"][m][name] for rows in models], seed
                    )
            for name in samplers():
                numbers[f"largest benefit, {name}, {of}"] = _mean(
                    [max(_curve(rows, m, name)) for rows in models], seed
                )
    return numbers


def _fall(
    of: str, curves: list[list[float]], models: list[list[Found]], seed: int
) -> dict[str, Estimate]:
    """How benefits fall from the largest to the best model's."""
    most, last = [max(curve) for curve in curves], [curve[-1] for curve in curves]
    ranks = [
        rank_correlation([model["KL"] for model in rows], curve)
        for rows, curve in zip(models, curves, strict=True)
    ]
    return {
        f"largest benefit, {of}": _mean(most, seed),
        f"benefit at the best model, {of}": _mean(last, seed),
        f"benefit left at the best model, of the largest, {of}": _ratio(last, most, seed),
        f"rank correlation of KL and benefit, {of}": _mean(ranks, seed),
    }


def _shares_left(of: str, shares: list[list[float]], seed: int) -> dict[str, Estimate]:
    """The same of the shares of the models' errors."""
    most, last = [max(curve) for curve in shares], [curve[-1] for curve in shares]
    return {
        f"largest share of the error removed, {of}": _mean(most, seed),
        f"share of the error removed at the best model, {of}": _mean(last, seed),
        f"share at the best model, of the largest, {of}": _ratio(last, most, seed),
    }


def _curve(rows: list[Found], measure: str, group: str) -> list[float]:
    """Benefits, from the poorest model to the best."""
    return [model["benefit"][measure][group] for model in rows]


def _shares(rows: list[Found], measure: str, group: str) -> list[float]:
    """The same over the error of each model."""
    return [_over(model["benefit"][measure][group], model["of model"][measure]) for model in rows]


def _over(part_of: float, whole: float) -> float:
    # an error that is nothing but rounding has no share
    return part_of / whole if whole > _NOTHING else 0.0


def _mean(values: list[float], seed: int) -> Estimate:
    """Over sources, resampled: benefits are skewed, and Student's interval reaches below 0."""
    found: Estimate = resampled((np.array(values),), np.asarray, seed, OVER).item()
    return found


def _ratio(part_of: list[float], whole: list[float], seed: int) -> Estimate:
    """Of the means over sources, resampled; 0 where there is nothing to take a part of."""

    def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.where(below > _NOTHING, above / np.maximum(below, _NOTHING), 0.0)

    found: Estimate = resampled((np.array(part_of), np.array(whole)), ratio, seed, OVER).item()
    return found


def _pictures(runs: list[tuple[str, dict[str, list[Found]]]]) -> tuple[Picture, ...]:
    def error(model: Found) -> float:
        return float(model["of model"][_SHOWN])

    def taken(group: str, model: Found) -> float:
        return float(model["benefit"][_SHOWN][group])

    def share(group: str, model: Found) -> float:
        return _over(taken(group, model), error(model))

    def untuned(name: str, model: Found) -> float:
        return float(model["default"][_SHOWN][name])

    groups = (DRIVEN, PLAIN)
    return (
        _picture(
            runs,
            "share",
            "Share of the model's error (reverse KL between what is sampled and the truth) that "
            "the best sampler takes off, tuned: of those that follow the entropy, and of the "
            "others. One point a model; better models to the left.",
            "share of the error removed",
            {group: partial(share, group) for group in groups},
        ),
        _picture(
            runs,
            "benefit",
            "What they take off in nats, and the error there is to take off (reverse KL).",
            "nats",
            {"the model's error": error} | {group: partial(taken, group) for group in groups},
        ),
        _picture(
            runs,
            "untuned",
            "What samplers do that nobody tunes (min_p 0.07, ζ up to 0.5, θ 0.5): below 0 they "
            "take what is sampled further from the truth (reverse KL).",
            "benefit, nats",
            {name: partial(untuned, name) for name in DEFAULTS},
        ),
    )


def _picture(
    runs: list[tuple[str, dict[str, list[Found]]]],
    name: str,
    caption: str,
    label: str,
    shown: Mapping[str, Callable[[Found], float]],
) -> Picture:
    panels = []
    for kind in KINDS:
        models = sorted((m for _, run in runs for m in run[kind]), key=lambda m: m["KL"])
        panels.append(
            Panel(
                title=kind,
                x_label="KL of the truth from the model, nats",
                y_label=label,
                series=tuple(
                    Series(
                        name=of,
                        x=floats(model["KL"] for model in models),
                        y=floats(value(model) for model in models),
                        style="points",
                    )
                    for of, value in shown.items()
                ),
                x_scale="log",
            )
        )
    return Picture(name=name, caption=caption, panels=tuple(panels))


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    helped, vanished, falls, said = [], [], [], []
    for kind in KINDS:
        of = [f"{DRIVEN}, {m}, {kind}" for m in JUDGED]
        most = [numbers[f"largest benefit, {x}"] for x in of]
        left = [numbers[f"benefit left at the best model, of the largest, {x}"] for x in of]
        share = [numbers[f"share at the best model, of the largest, {x}"] for x in of]
        if any(e.low <= SEEN[m] for e, m in zip(most, JUDGED, strict=True)):
            said.append(
                f"{kind}: no benefit at any quality (at most {most[0].value:.4f} nats "
                f"[{most[0].low:.4f}, {most[0].high:.4f}] of reverse KL)"
            )
            continue
        helped.append(kind)
        falls.append(all(e.high < 1 / 2 for e in left))
        vanished.append(all(e.high < FALLEN for e in left) and all(e.high < 1 / 2 for e in share))
        said.append(
            f"{kind}: at most {most[0].value:.3f} nats, of which {100 * left[0].value:.1f} % "
            f"[{100 * left[0].low:.1f}, {100 * left[0].high:.1f}] are left at the best model, and "
            f"of the share of the error that is removed {100 * share[0].value:.0f} % "
            f"[{100 * share[0].low:.0f}, {100 * share[0].high:.0f}]"
        )
    why = f"{'; '.join(said)}.".capitalize()
    if not helped:
        return "undecided", why
    if all(vanished) and len(helped) == len(KINDS):
        return "holds", why
    return ("holds with a correction" if all(falls) else "does not hold"), why


RULE = (
    "The benefit is what the best entropy-driven sampler, tuned on other texts, takes off the "
    "divergence between what is sampled and the truth, in reverse KL and in total variation. Holds "
    "if every kind of model has a benefit somewhere (above 0.005 nats and 0.002), at the best "
    "model less than 10 % of the largest is left, and of the share of the error that it removes "
    "less than half: for no more can be taken off than there is, so that a benefit has to vanish "
    "with the error, and the claim says more only if its share does. With a correction if at least "
    "one kind has a benefit, and all that have one keep less than half of it at the best model. "
    "Otherwise it does not hold; undecided if no kind has a benefit. Ends of the intervals "
    "throughout."
)

CLAIM = Claim(
    id="S3",
    statement="The nearer a model is to the truth (in KL), the less entropy-driven sampling helps: "
    "minimising KL makes it redundant",
    source="Entropic LLMs note",
    how="Sources whose next-token distribution is known, models of them from poor to good; "
    "divergence between the truth and what is sampled, with and without a sampler.",
    rule=RULE,
    paper="Stated in words: optimal outputs make entropy sampling redundant.",
    measure=measure,
    judge=judge,
)
