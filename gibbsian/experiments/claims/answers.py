"""Entropy-driven decoding and answers: the verdict on a study that takes an hour."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.intervals import Estimate

RESULT = Path("results/decoding.json")
COMMAND = "python -m gibbsian.experiments.studies.decoding --out results"
SIGNIFICANT = 0.05
NOTICED = 0.02
"""An advantage in accuracy that matters."""

_TUNED = "advantage as tuned, "
_P = "corrected p of it, "
_MATCHED = "advantage at roughly matched entropy, "
_MEAN = "mean advantage as tuned"


def numbers_of(answers: Mapping[str, Any]) -> dict[str, Estimate]:
    """What the rule looks at, from the comparisons of the study."""
    count = answers["problems"]

    def estimate(found: Mapping[str, float]) -> Estimate:
        return Estimate(
            value=found["value"],
            low=found["low"],
            high=found["high"],
            count=count,
            over="problems",
            kind="resampled",
        )

    numbers = {_MEAN: estimate(answers["mean"])}
    for name, found in answers["tuned"].items():
        p = found["corrected"]
        numbers[_TUNED + name] = estimate(found)
        numbers[_P + name] = Estimate(
            value=p, low=p, high=p, count=count, over="problems", kind="p-value"
        )
        numbers[_MATCHED + name] = estimate(answers["matched"][name])
    return numbers


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    better = [
        name.removeprefix(_TUNED)
        for name, found in numbers.items()
        if name.startswith(_TUNED)
        and found.value > 0
        and numbers[_P + name.removeprefix(_TUNED)].value < SIGNIFICANT
    ]
    both = [name for name in better if numbers[_MATCHED + name].low > 0]
    if both:
        return (
            "holds",
            f"Better than the best baseline, and at roughly matched entropy: {_list(both)}.",
        )
    if better:
        return "holds with a correction", (
            f"Better than the best baseline as tuned, but not than temperature at roughly "
            f"matched entropy: {_list(better)}."
        )
    mean = numbers[_MEAN]
    value, low, high = (f"{100 * x:+.1f}" for x in (mean.value, mean.low, mean.high))
    said = f"mean advantage {value} points, 95 % interval {low} to {high}"
    if mean.high < NOTICED:
        return "does not hold", f"No policy is better than the best baseline; {said}."
    return "undecided", f"No policy is better than the best baseline, nor is it excluded; {said}."


def _list(names: list[str]) -> str:
    return ", ".join(names)


def measure(size: Size, seed: int) -> Measured:
    """Reads the study's result; it is not made here."""
    del size, seed
    try:
        result = json.loads(RESULT.read_text(encoding="utf-8"))
        answers = result["comparisons"]["answers"]
        scale = f"{result['model']}; {answers['problems']} problems, {answers['seeds']} seeds"
        return Measured(numbers=numbers_of(answers), scale=scale)
    except (OSError, ValueError, KeyError, TypeError):
        return Measured(
            numbers={},
            scale="no result of the study",
            missing=f"{RESULT} is not there, `{COMMAND}` writes it",
        )


RULE = (
    "On accuracy, differences paired by problem, tasks weighted equally. Holds if a policy driven "
    "by entropy, tuned, is better than the best tuned baseline (p < 0.05, corrected by Holm over "
    "the seven) and, at an entropy matched on the tuning split, better than temperature (lower end "
    "above 0); with a correction if only the first. Does not hold if none is better and the mean "
    "advantage of the seven is below two points (upper end); otherwise undecided."
)

CLAIM = Claim(
    id="S4",
    statement="Decoding driven by entropy and varentropy improves answers",
    source="Entropix (xjdr 2024)",
    how="SmolLM2 on tasks with answers that can be checked: greedy, temperature, top-p, min-p "
    "against seven policies, four settings each, aimed at equal entropies, tuned on other "
    "problems.",
    rule=RULE,
    paper="Better reasoning is claimed; no controlled numbers were published.",
    measure=measure,
    judge=judge,
)
