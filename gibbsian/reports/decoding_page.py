"""The tables and the picture of the study of decoding; the words around them stay.

python -m gibbsian.reports.decoding_page results/decoding.json results/sampling-costs.json .
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gibbsian._errors import DataError
from gibbsian.reports.decoding_figure import draw_decoding

PAGE = Path("docs", "experiments", "decoding.md")
FIGURE = PAGE.parent / "figures" / "decoding.svg"

_AGAINST = {"tuned": ("tuned temperature", "the best baseline"), "matched": ("temperature",)}

Results = Mapping[str, Any]

_TEXT = "text"
_TEMPERATURE = "temperature"
_CLOSE = 0.1
"""Relative: a setting whose entropy is further from the one asked for is marked."""
_SCORES = ("judge", "repeated_4_grams", "compressed", "distinct_2_grams", "loops")
_FORKS = {"branch": 9, "resample": 3}
"""Rows that the model reads besides at one such token: 3 continuations of 4 tokens, 3 draws."""


def tables(results: Results, costs: Results) -> dict[str, str]:
    """Markdown of every table of the page, by its name there."""
    comparisons = results["comparisons"]
    made: dict[str, str] = {"setup": _setup(results), "budget": _budget(results)}
    if "answers" in comparisons:
        made["verdict"] = f"**S4 {results['verdict']}.** {results['why']}"
        made["answers"] = _answers(results, "tuned")
        made["answers-matched"] = _answers(results, "matched")
        made["matched"] = _matched(results)
    if _TEXT in comparisons:
        made["text"] = _text(results, "tuned")
        made["text-matched"] = _text(results, "matched")
    made["cost"] = _cost(results, costs)
    return made


def page_with(page: str, made: Mapping[str, str]) -> str:
    """The page with these tables in the places of their names.

    Raises:
        DataError: a place is missing.
    """
    for name, table in made.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        place = re.compile(f"{begin}.*?{end}", re.DOTALL)
        if not place.search(page):
            raise DataError(f"`page` must have the place {begin} ... {end}. Add it.")
        page = place.sub(f"{begin}\n\n{table}\n\n{end}".replace("\\", r"\\"), page)
    return page


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """The first columns hold words, the others numbers."""
    rules = ["---"] * words + ["---:"] * (len(titles) - words)
    lines = (titles, rules, *rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _setup(results: Results) -> str:
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    parts = [
        f"{name}: {found['prompts']} prompts on the test split"
        for name, found in results["subjects"].items()
    ]
    return (
        f"{results['model']}. {'; '.join(parts)}; {results['size']['seeds']} continuations of each "
        f"(greedy: one). {machine['processor']}, one thread. {packages}."
    )


def _budget(results: Results) -> str:
    """Entropies asked for, found at the settings, and realised on the tuning split."""
    subjects = results["subjects"]
    found = {name: subject["levels"]["methods"] for name, subject in subjects.items()}
    asked = [f"{name} {e:.2f}" for name, s in subjects.items() for e in s["levels"]["targets"]]
    rows, marked = [], 0
    off: dict[str, list[float]] = {}
    for method in next(iter(found.values())):
        row = [method]
        for name, subject in subjects.items():
            given, levels = found[name][method], subject["levels"]
            several = zip(
                levels["targets"],
                given["entropies"],
                given["reached"],
                subject["tuning"][method]["entropies"],
                strict=True,
            )
            for target, entropy, reached, realised in several:
                apart = entropy / target - 1
                mark = "†" if not reached else "*" if abs(apart) > _CLOSE else ""
                marked += bool(mark)
                off.setdefault(name, []).append(apart)
                row.append(f"{entropy:.2f}{mark} / {realised:.2f}")
        rows.append(row)
    spans = "; ".join(
        f"{name} {100 * min(several):+.0f} to {100 * max(several):+.0f} %"
        for name, several in off.items()
    )
    total = sum(len(several) for several in off.values())
    return (
        f"Off what was asked for, along the contexts: {spans}; {total - marked} of {total} "
        f"settings within {100 * _CLOSE:.0f} %.\n\n" + _table(["method", *asked], rows)
    )


def _matched(results: Results) -> str:
    """How far apart the entropies of methods are that are called roughly matched."""
    said = []
    for name, subject in results["subjects"].items():
        realised = {
            method: modes["matched"]["realised_entropy"]
            for method, modes in subject["methods"].items()
            if "matched" in modes
        }
        low, high = min(realised.values()), max(realised.values())
        said.append(f"{name} {low:.2f} to {high:.2f} (temperature {realised[_TEMPERATURE]:.2f})")
    return f"Realised on the test split: {'; '.join(said)}."


def _by_entropy(subject: Results, name: str) -> float | None:
    """What a gap in entropy from matched temperature is worth, in the score.

    Temperature's own scores at its two strengths on the test split lie on a line; None where they
    have one entropy.
    """
    methods = subject["methods"]
    here, there = methods[_TEMPERATURE]["matched"], methods[_TEMPERATURE]["tuned"]
    run = there["realised_entropy"] - here["realised_entropy"]
    if run == 0:
        return None
    gap = methods[name]["matched"]["realised_entropy"] - here["realised_entropy"]
    return float((there["score"] - here["score"]) / run * gap)


def _mean_by_entropy(
    subjects: Sequence[Results], name: str, written: Callable[[float], str]
) -> str:
    several = [_by_entropy(subject, name) for subject in subjects]
    known = [value for value in several if value is not None]
    if name == _TEMPERATURE or len(known) < len(several):
        return ""
    return written(sum(known) / len(known))


def _with_p(titles: Sequence[str]) -> list[str]:
    return [part for title in titles for part in (title, "p (Holm)")]


def _tasks(results: Results) -> list[str]:
    return [name for name in results["subjects"] if name != _TEXT]


def _names(results: Results) -> list[str]:
    return list(next(iter(results["subjects"].values()))["methods"])


def _points(found: Mapping[str, float]) -> str:
    value, low, high = (100 * found[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _apart(found: Mapping[str, float]) -> str:
    return f"{found['value']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"


def _compared(
    against: Mapping[str, Any], name: str, written: Callable[[Mapping[str, float]], str]
) -> list[str]:
    found = against.get(name)
    return [written(found), f"{found['corrected']:.3f}"] if found else ["", ""]


def _answers(results: Results, mode: str) -> str:
    tasks, comparison = _tasks(results), results["comparisons"]["answers"]
    of = {task: results["subjects"][task]["methods"] for task in tasks}
    rows = []
    for name in _names(results):
        if mode not in of[tasks[0]][name]:
            continue
        row = [name]
        for task in tasks:
            found = of[task][name][mode]
            best = results["subjects"][task]["best_baseline"] == name and mode == "tuned"
            accuracy = f"{100 * found['score']:.1f}"
            row += [
                f"**{accuracy}**" if best else accuracy,
                f"{100 * found['low']:.0f} to {100 * found['high']:.0f}",
                f"{found['realised_entropy']:.2f}",
            ]
        if mode == "tuned":
            row += _compared(comparison["tuned_against_temperature"], name, _points)
        row += _compared(comparison[mode], name, _points)
        if mode == "matched":
            several = [results["subjects"][task] for task in tasks]
            row.append(_mean_by_entropy(several, name, lambda x: f"{100 * x:+.1f}"))
        rows.append(row)
    if mode == "tuned":
        blank = [""] * (3 * len(tasks) + 2)
        rows.append(["mean of the seven", *blank, _points(comparison["mean"]), ""])
    columns = [c for task in tasks for c in (f"{task}, %", "95 %", "entropy")]
    against = [f"against {what}, points" for what in _AGAINST[mode]]
    more = ["of it by the entropy"] if mode == "matched" else []
    return _table(["method", *columns, *_with_p(against), *more], rows)


def _text(results: Results, mode: str) -> str:
    found, comparison = results["subjects"][_TEXT], results["comparisons"][_TEXT]
    rows = []
    for name, modes in found["methods"].items():
        if mode not in modes:
            continue
        this = modes[mode]
        same = this["same_trigrams"]
        bold = found["best_baseline"] == name and mode == "tuned"
        score = f"{this['score']:.2f}"
        tuned = comparison["tuned_against_temperature"] if mode == "tuned" else None
        rows.append(
            [
                name,
                f"**{score}**" if bold else score,
                *(f"{this['scores'][score]:.3f}" for score in _SCORES),
                "" if same is None else f"{same:.3f}",
                f"{this['surprisal']:.2f}",
                f"{this['realised_entropy']:.2f}",
                *(_compared(tuned, name, _apart) if tuned is not None else ()),
                *_compared(comparison[mode], name, _apart),
            ]
        )
        if mode == "matched":
            # a smaller distance is better
            rows[-1].append(_mean_by_entropy([found], name, lambda x: f"{-x:+.2f}"))
    human = found["human"]
    own = [f"{human[score]:.3f}" for score in _SCORES]
    more = ["of it by the entropy"] if mode == "matched" else []
    blank = [""] * (1 + 2 * len(_AGAINST[mode]) + len(more))
    rows.append(["human", "0", *own, "", f"{human['surprisal']:.2f}", *blank])
    against = [f"against {what}" for what in _AGAINST[mode]]
    titles = [
        "method",
        "distance",
        "second model, nats",
        "repeated 4-grams",
        "zlib",
        "different bigrams",
        "loops",
        "shared trigrams",
        "surprisal",
        "entropy",
        *_with_p(against),
        *more,
    ]
    return _table(titles, rows)


def _cost(results: Results, costs: Results) -> str:
    """Of a step, and the model's reading besides."""
    ratios = costs["decoding"]["of_a_decode_step"]
    first = next(iter(results["subjects"].values()))["methods"]
    rows = []
    for name in _names(results):
        # the baselines are settings of one policy
        kind = first[name]["tuned"]["policy"]["name"]
        extra = [
            sum(_FORKS.get(a, 0) * n for a, n in found["methods"][name]["tuned"]["actions"].items())
            for found in results["subjects"].values()
        ]
        ratio = ratios.get(kind)
        rows.append(
            [
                name,
                f"{100 * ratio['ratio']:.1f} %" if ratio else "",
                "none" if not any(extra) else f"{min(extra):.1f} to {max(extra):.1f}",
            ]
        )
    return _table(["method", "step, of a decode step", "rows read besides, a token"], rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Tables and picture of the study of decoding.")
    parser.add_argument("results", type=Path, help="result of the study")
    parser.add_argument("costs", type=Path, help="result of the costs of sampling")
    parser.add_argument("root", type=Path, help="folder that holds docs/")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text(encoding="utf-8"))
    costs = json.loads(arguments.costs.read_text(encoding="utf-8"))
    page = arguments.root / PAGE
    made = page_with(page.read_text(encoding="utf-8"), tables(results, costs))
    page.write_text(made, encoding="utf-8")
    draw_decoding(results, arguments.root / FIGURE)


if __name__ == "__main__":
    main()
