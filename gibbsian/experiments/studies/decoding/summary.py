"""From what was decoded to the result: means, comparisons, the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from gibbsian.experiments.claims.answers import judge, numbers_of
from gibbsian.experiments.studies.decoding.cells import Cells
from gibbsian.experiments.studies.decoding.inference import (
    RESAMPLES,
    Resampled,
    as_json,
    corrected,
    difference,
    mean_difference,
    resampled,
    weights,
)
from gibbsian.experiments.studies.decoding.methods import BASELINES, ENTROPIC, GREEDY, METHODS
from gibbsian.experiments.studies.decoding.run import MODES, blocks, realised
from gibbsian.experiments.studies.decoding.scores import SCALES, overlap
from gibbsian.experiments.studies.decoding.subjects import Scores, Subject, TextSubject

Key = tuple[str, str]
"""Method and mode."""

_OVERLAP = 3
"""n-grams whose presence in the other continuations of a prompt is counted."""
_EXAMPLES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """All continuations of one subject's test split that every method has made."""

    subject: Subject
    cells: Mapping[Key, Sequence[Mapping[str, Any]]]
    """By method and mode, one a block."""
    tuning: Mapping[str, Any]
    """Strengths, and what they gave on the tuning split."""
    levels: Mapping[str, Any]

    def rows(self, key: Key) -> list[Mapping[str, Any]]:
        """Continuations of a method."""
        return [row for cell in self.cells[key] for row in cell["rows"]]

    @property
    def prompts(self) -> int:
        """Number of prompts that all methods have continued."""
        return len({row["prompt"] for row in self.rows((GREEDY, "tuned"))})

    def by_prompt(self, key: Key) -> list[Scores]:
        """Scores of each prompt, its continuations averaged."""
        several: dict[int, list[Scores]] = {}
        for row in self.rows(key):
            several.setdefault(row["prompt"], []).append(row["scores"])
        return [
            {name: sum(s[name] for s in found) / len(found) for name in found[0]}
            for _, found in sorted(several.items())
        ]

    @property
    def best_baseline(self) -> str:
        """The one of highest quality on the tuning split; of equals the first."""
        return max(BASELINES, key=lambda name: max(self.tuning[name]["qualities"]))


def keys() -> list[Key]:
    """Every method and mode; greedy has one."""
    return [(GREEDY, "tuned"), *((m.name, mode) for m in METHODS for mode in MODES)]


def gathered(cells: Cells, subject: Subject) -> Found | None:
    """The blocks that are complete; None without any."""
    found: dict[Key, list[Mapping[str, Any]]] = {key: [] for key in keys()}
    for number in range(len(blocks(subject))):
        names = [(subject.name, "test", *key, str(number)) for key in found]
        block = [cell for each in names if (cell := cells.get(*each)) is not None]
        if len(block) < len(names):
            break
        for key, cell in zip(found, block, strict=True):
            found[key].append(cell)
    if not found[GREEDY, "tuned"]:
        return None
    tuning: Mapping[str, Any] = cells.get(subject.name, "chosen") or {}
    levels: Mapping[str, Any] = cells.get(subject.name, "levels") or {}
    return Found(subject=subject, cells=found, tuning=tuning, levels=levels)


def _accuracy(
    means: Float[np.ndarray, "samples scores"], drawn: Float[np.ndarray, "samples prompts"]
) -> Float[np.ndarray, "samples"]:
    del drawn
    return means[:, 0]


def _scored(found: Found, seed: int) -> dict[Key, Resampled]:
    """Accuracy, or distance from the human continuations, of every method."""
    drawn = weights(found.prompts, RESAMPLES, seed)
    if not isinstance(found.subject, TextSubject):
        return {
            key: resampled(
                np.array([[s["accuracy"]] for s in found.by_prompt(key)]), drawn, _accuracy
            )
            for key in found.cells
        }
    human = _table(found.subject.references("test")[: found.prompts])
    scales = np.array(list(SCALES.values()))

    def far(means: NDArray[np.float64], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        apart: NDArray[np.float64] = (np.abs(means - drawn @ human) / scales).mean(axis=1)
        return apart

    return {key: resampled(_table(found.by_prompt(key)), drawn, far) for key in found.cells}


def _table(rows: Sequence[Scores]) -> Float[np.ndarray, "prompts scores"]:
    return np.array([[row[name] for name in SCALES] for row in rows])


def compared(several: Sequence[Found], sign: float) -> dict[str, Any]:
    """Every entropy-driven policy against the best baseline, and matched against temperature.

    Args:
        several: subjects, weighted equally.
        sign: 1 if larger scores are better, -1 if smaller.
    """
    scored = [_scored(found, seed) for seed, found in enumerate(several)]

    def of(key: Key) -> list[Resampled]:
        return [by_key[key] for by_key in scored]

    best = [
        by_key[found.best_baseline, "tuned"] for found, by_key in zip(several, scored, strict=True)
    ]
    temperature = of(("temperature", "matched"))
    everything = [m.name for m in METHODS if m.name != "temperature"]
    return {
        "subjects": [found.subject.name for found in several],
        "problems": sum(found.prompts for found in several),
        "seeds": len({row["seed"] for row in several[0].rows(("temperature", "tuned"))}),
        "best_baseline": {found.subject.name: found.best_baseline for found in several},
        "resamples": RESAMPLES,
        "tuned": as_json(
            corrected({n: difference(of((n, "tuned")), best, sign) for n in ENTROPIC})
        ),
        "mean": mean_difference([of((n, "tuned")) for n in ENTROPIC], best, sign).to_json(),
        # asked after the first look: greedy was the best baseline, colder than any setting
        "tuned_against_temperature": as_json(
            corrected(
                {
                    n: difference(of((n, "tuned")), of(("temperature", "tuned")), sign)
                    for n in everything
                }
            )
        ),
        "matched": as_json(
            corrected({n: difference(of((n, "matched")), temperature, sign) for n in everything})
        ),
    }


def described(found: Found, seed: int = 0) -> dict[str, Any]:
    """Means of every method on a subject."""
    scored = _scored(found, seed)
    methods: dict[str, dict[str, Any]] = {}
    for (name, mode), cells in found.cells.items():
        rows = found.rows((name, mode))
        tokens = sum(len(row["tokens"]) for row in rows)
        scores = found.by_prompt((name, mode))
        low, high = np.quantile(scored[name, mode].samples, [0.025, 0.975])
        actions: dict[str, int] = {}
        for row in rows:
            for action, count in row["actions"].items():
                actions[action] = actions.get(action, 0) + count
        methods.setdefault(name, {})[mode] = {
            "policy": cells[0]["policy"],
            "score": round(scored[name, mode].value, 5),
            "low": round(float(low), 5),
            "high": round(float(high), 5),
            "scores": {
                score: round(sum(row[score] for row in scores) / len(scores), 5)
                for score in scores[0]
            },
            "realised_entropy": round(
                sum(realised(cell) * _tokens(cell) for cell in cells) / tokens, 5
            ),
            **{
                quantity: round(sum(row[quantity] * len(row["tokens"]) for row in rows) / tokens, 5)
                for quantity in ("entropy", "surprisal", "kept")
            },
            "tokens": tokens,
            "length": round(tokens / len(rows), 2),
            "actions": {action: round(n / tokens, 5) for action, n in actions.items()},
            "same_trigrams": _sameness(rows),
        }
    result: dict[str, Any] = {
        "prompts": found.prompts,
        "blocks": len(found.cells[GREEDY, "tuned"]),
        "best_baseline": found.best_baseline,
        "levels": found.levels,
        "tuning": found.tuning,
        "methods": methods,
    }
    if isinstance(found.subject, TextSubject):
        references = found.subject.references("test")[: found.prompts]
        result["human"] = {
            name: round(sum(row[name] for row in references) / len(references), 5)
            for name in references[0]
        }
    return result


def _tokens(cell: Mapping[str, Any]) -> int:
    return sum(len(row["tokens"]) for row in cell["rows"])


def _sameness(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Share of a continuation's trigrams in the prompt's other continuations; None for one each."""
    several: dict[int, list[list[int]]] = {}
    for row in rows:
        several.setdefault(row["prompt"], []).append(row["tokens"])
    if any(len(found) < 2 for found in several.values()):
        return None
    shares = [
        overlap(tokens, [*found[:i], *found[i + 1 :]], _OVERLAP)
        for found in several.values()
        for i, tokens in enumerate(found)
    ]
    return round(sum(shares) / len(shares), 5)


def summary(cells: Cells, subjects: Sequence[Subject]) -> dict[str, Any]:
    """Everything that can be said of the blocks that are complete."""
    found = [each for s in subjects if (each := gathered(cells, s)) is not None]
    tasks = [each for each in found if not isinstance(each.subject, TextSubject)]
    texts = [each for each in found if isinstance(each.subject, TextSubject)]
    result: dict[str, Any] = {
        "subjects": {each.subject.name: described(each) for each in found},
        "comparisons": {},
    }
    if texts:
        result["comparisons"]["text"] = compared(texts, -1.0)
    if tasks:
        answers = compared(tasks, 1.0)
        result["comparisons"]["answers"] = answers
        verdict, why = judge(numbers_of(answers))
        result["verdict"], result["why"] = verdict, why
    result["examples"] = [example for each in found for example in _examples(each)]
    result["prompts"] = [row for each in found for row in _by_prompt(each)]
    return result


def _by_prompt(found: Found) -> list[dict[str, Any]]:
    """A row for each prompt and score, a column for each method: what intervals are made of."""
    columns = {f"{name} {mode}": found.by_prompt((name, mode)) for name, mode in found.cells}
    if isinstance(found.subject, TextSubject):
        columns["human"] = found.subject.references("test")[: found.prompts]
    (first, *_) = columns.values()
    return [
        {
            "subject": found.subject.name,
            "score": score,
            "prompt": i,
            **{name: round(rows[i][score], 5) for name, rows in columns.items()},
        }
        for score in first[0]
        for i in range(found.prompts)
    ]


def _examples(found: Found) -> list[dict[str, Any]]:
    prompts = found.subject.prompts("test")
    return [
        {
            "subject": found.subject.name,
            "method": name,
            "mode": mode,
            "prompt": prompts[row["prompt"]],
            "text": row["text"],
            **row["scores"],
        }
        for (name, mode), several in found.cells.items()
        for row in several[0]["rows"][:_EXAMPLES]
    ]
