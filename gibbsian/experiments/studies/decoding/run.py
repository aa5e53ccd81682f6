"""The order of the study: levels, tuning, then the test split seed by seed."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from gibbsian.experiments.studies.decoding.cells import Cells
from gibbsian.experiments.studies.decoding.levels import TEMPERATURES, levels, thresholds_of
from gibbsian.experiments.studies.decoding.methods import GREEDY, METHODS, at_entropy, by_name
from gibbsian.experiments.studies.decoding.subjects import Split, Subject
from gibbsian.experiments.studies.decoding.writer import Writer
from gibbsian.sampling import Thresholds
from gibbsian.sampling.policies import Fixed, Policy

MATCHED_AT = TEMPERATURES.index(0.7)
"""The level at which methods are matched."""
MODES = ("tuned", "matched")
_TUNING_SEED = 1000
_SEED_STRIDE = 7919


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is run on the test split."""

    seeds: int
    """Continuations of each prompt."""
    backwards: bool = False
    """From the last method to the first: a second run beside the first meets it in the middle."""


def decode(
    writer: Writer,
    subject: Subject,
    split: Split,
    policy: Policy,
    *,
    seeds: Sequence[int],
    block: tuple[int, int],
) -> dict[str, Any]:
    """Continuations of the prompts of a block, with their scores."""
    began = time.perf_counter()
    first, last = block
    several = writer.write(
        subject.prompts(split)[first:last],
        policy,
        seeds,
        length=subject.length,
        whole=subject.whole,
    )
    seconds = time.perf_counter() - began
    rows = []
    for seed, samples in zip(seeds, several, strict=True):
        scores = subject.scores(split, first, samples)
        rows += [
            {"seed": seed, "prompt": first + i, **asdict(sample), "scores": row}
            for i, (sample, row) in enumerate(zip(samples, scores, strict=True))
        ]
    return {"policy": policy.to_config(), "seconds": round(seconds, 2), "rows": rows}


def realised(cell: Mapping[str, Any]) -> float:
    """Mean entropy of what a piece was drawn from, over its tokens."""
    rows = cell["rows"]
    number = sum(len(row["tokens"]) for row in rows)
    return float(sum(row["realised"] * len(row["tokens"]) for row in rows) / number)


def quality(cell: Mapping[str, Any], subject: Subject, split: Split) -> float:
    """What tuning makes largest."""
    return subject.quality(split, [row["scores"] for row in cell["rows"]])


def chosen(
    found: Mapping[str, Any], tuning: Mapping[str, Sequence[Mapping[str, Any]]], subject: Subject
) -> dict[str, dict[str, Any]]:
    """Tuned and matched strength of every method, from the tuning split.

    Of settings of equal quality the one of least entropy is tuned.
    """
    target = realised(tuning["temperature"][MATCHED_AT])
    result: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        strengths = found["methods"][method.name]["strengths"]
        qualities = [quality(cell, subject, "tuning") for cell in tuning[method.name]]
        entropies = [realised(cell) for cell in tuning[method.name]]
        best = max(range(len(strengths)), key=lambda i: (qualities[i], -entropies[i]))
        matched, reached = at_entropy(strengths, entropies, target)
        result[method.name] = {
            "tuned": strengths[best],
            "matched": float(f"{matched:.4g}"),
            "reached": reached,
            "setting": best,
            "strengths": strengths,
            "qualities": [round(value, 5) for value in qualities],
            "entropies": [round(value, 5) for value in entropies],
        }
    result[GREEDY] = {"qualities": [round(quality(tuning[GREEDY][0], subject, "tuning"), 5)]}
    return result


def tuning_cells(
    cells: Cells, writer: Writer, subject: Subject, found: Mapping[str, Any], plan: Plan
) -> dict[str, list[dict[str, Any]]]:
    """Every setting on the tuning split, one seed."""
    thresholds = thresholds_of(dict(found))
    settings: list[tuple[str, int, Policy]] = [(GREEDY, 0, Fixed(temperature=0.0))]
    for method in METHODS:
        strengths = found["methods"][method.name]["strengths"]
        settings += [
            (method.name, i, method.policy(value, thresholds)) for i, value in enumerate(strengths)
        ]
    whole = (0, len(subject.prompts("tuning")))
    made = {
        (name, setting): _made(
            cells,
            partial(decode, writer, subject, "tuning", policy, seeds=[_TUNING_SEED], block=whole),
            (subject.name, "tuning", name, str(setting)),
        )
        for name, setting, policy in (reversed(settings) if plan.backwards else settings)
    }
    result: dict[str, list[dict[str, Any]]] = {}
    for name, setting, _ in settings:
        result.setdefault(name, []).append(made[name, setting])
    return result


def test_settings(
    choice: Mapping[str, Mapping[str, Any]], thresholds: Thresholds
) -> Iterator[tuple[str, str, Policy]]:
    """Method, mode and policy of everything on the test split."""
    yield GREEDY, "tuned", Fixed(temperature=0.0)
    for method in METHODS:
        for mode in MODES:
            strength = choice[method.name][mode]
            yield method.name, mode, by_name(method.name).policy(strength, thresholds)


def run(cells: Cells, writer: Writer, subjects: Sequence[Subject], plan: Plan) -> None:
    """Everything that is not there yet; behind each block all methods have the same prompts."""
    policies = {}
    for subject in subjects:
        found = _made(cells, partial(_levels, writer, subject), (subject.name, "levels"))
        tuning = tuning_cells(cells, writer, subject, found, plan)
        choice = _made(cells, partial(chosen, found, tuning, subject), (subject.name, "chosen"))
        settings = list(test_settings(choice, thresholds_of(found)))
        policies[subject.name] = settings[::-1] if plan.backwards else settings
    for number in range(max(len(blocks(subject)) for subject in subjects)):
        for subject in subjects:
            # a subject with fewer blocks than another is complete
            for block in blocks(subject)[number : number + 1]:
                for name, mode, policy in policies[subject.name]:
                    seeds = [_SEED_STRIDE * (seed + 1) for seed in range(plan.seeds)]
                    if name == GREEDY:
                        # it draws nothing
                        del seeds[1:]
                    _made(
                        cells,
                        partial(decode, writer, subject, "test", policy, seeds=seeds, block=block),
                        (subject.name, "test", name, mode, str(number)),
                    )


def blocks(subject: Subject) -> list[tuple[int, int]]:
    """First and last prompt of each block of the test split; a rest is left out."""
    number = len(subject.prompts("test")) // subject.block
    return [(i * subject.block, (i + 1) * subject.block) for i in range(number)]


def _levels(writer: Writer, subject: Subject) -> dict[str, Any]:
    return levels(writer, subject.contexts(writer))


def _made(cells: Cells, make: Callable[[], Any], names: tuple[str, ...]) -> Any:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {' '.join(names)}\n")
    return cells.made(make, *names)
