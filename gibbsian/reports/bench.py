"""The results of `gibbsian bench` as tables: every contender, and one short line a question.

Only what was found right has a speed: a contender that was wrong, or could not run, shows that in
its place.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gibbsian.reports.table import ABSENT, Column

Results = Mapping[str, Any]
_Line = Mapping[str, Any]

GLOBAL_NOTE = "An interval holds the median ratio with 95 % probability (the range below 6 rounds)."


def _cell(name: str) -> Any:
    return lambda line: line[name]


BENCH_COLUMNS = tuple(
    Column(title=title, meaning=meaning, text=_cell(title))
    for title, meaning in (
        ("case", "name, for `gibbsian bench NAME`"),
        ("contender", "what ran"),
        ("median", "of the rounds' times, or peak memory beyond inputs and outputs"),
        ("quartiles", "first and third of the times"),
        ("first call", "the very first call, compilation included"),
        ("error", "largest error found, relative, against the truth in float64"),
        ("to", "what the ratio divides by"),
        ("ratio", "median of the rounds' ratios, and its interval"),
        ("bar", "what has to be reached, and whether it is"),
        ("aim", "what would be better still"),
        ("paper", "the published ratio, on other hardware"),
    )
)


def bench_rows(results: Results) -> list[list[str]]:
    """The cells, in the order of `BENCH_COLUMNS`.

    A line a contender, and one more for each further ratio that it has.
    """
    return [
        [column.text(line) for column in BENCH_COLUMNS]
        for name, case in results["cases"].items()
        for line in _lines(name, case)
    ]


def bench_title(results: Results) -> str:
    """What ran on what, in one line."""
    machine, settings = results["machine"], results["settings"]
    quick = "quick look (tiny sizes: no statement about speed); " if settings["quick"] else ""
    return (
        f"{quick}{machine['processor']}, {settings['threads']} threads, "
        f"torch {results['versions']['torch']}, float32, batch 1"
    )


def short_rows(results: Results) -> list[list[str]]:
    """One line a question that has a bar: what, over what, sizes, ratios, bars."""
    found: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for case in results["cases"].values():
        for what, size, value, bar in _barred(case):
            found.setdefault((case["group"], what), []).append((size, value, bar))
    return [
        [group, what, *(", ".join(parts) for parts in zip(*values, strict=True))]
        for (group, what), values in found.items()
    ]


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A table; the first `left` columns are aligned to the left."""
    marks = ["---" if i < left else "---:" for i in range(len(titles))]
    lines = [list(titles), marks, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def seconds_text(seconds: float) -> str:
    """Three digits with a fitting unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def bytes_text(count: int) -> str:
    """In GB, or MB below one."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def reached(ratio: Mapping[str, Any], limit: float) -> bool:
    """Whether the ratio's median reaches a limit."""
    value: float = ratio["median"]
    return value >= limit if ratio["higher_is_better"] else value <= limit


def _lines(name: str, case: Mapping[str, Any]) -> Iterator[_Line]:
    for position, (contender, found) in enumerate(case["contenders"].items()):
        line = dict.fromkeys((column.title for column in BENCH_COLUMNS), ABSENT)
        line |= {"case": name, "contender": contender, **_measured(found)}
        if position == 0 and case["bar_bytes"] is not None and "bytes" in found:
            limit = case["bar_bytes"]
            line["bar"] = f"≤ {bytes_text(limit)} {_mark(found['bytes'] <= limit)}"
        ratios = [ratio for ratio in case["ratios"] if ratio["of"] == contender]
        yield line | (_compared(ratios[0]) if ratios else {})
        for ratio in ratios[1:]:
            rest = dict.fromkeys(line, "") | {"case": name, "contender": contender}
            yield rest | _compared(ratio)


def _measured(found: Mapping[str, Any]) -> dict[str, str]:
    status = found["status"]
    cells = {}
    if "check" in found:
        error, against = found["check"]["error"], found["check"]["against"]
        cells["error"] = "NaN" if error is None else f"{error:.0e}"
        if status == "ok" and against.startswith("finite"):
            cells["error"] = "no truth"
    if status == "WRONG":
        return {**cells, "median": "WRONG"}
    if status != "ok":
        return {**cells, "median": f"{status}: {found['detail']}"}
    if "bytes" in found:
        return {**cells, "median": bytes_text(found["bytes"])}
    seconds = found["seconds"]
    return {
        **cells,
        "median": seconds_text(seconds["median"]),
        "quartiles": f"{seconds_text(seconds['q1'])} .. {seconds_text(seconds['q3'])}",
        "first call": seconds_text(found["first_call_s"]),
    }


def _compared(ratio: Mapping[str, Any]) -> dict[str, str]:
    cells = {
        "to": ratio["to"],
        "ratio": f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]",
    }
    sign = "≥" if ratio["higher_is_better"] else "≤"
    for name in ("bar", "aim"):
        limit = ratio[name]
        cells[name] = (
            ABSENT if limit is None else f"{sign} {limit:.3g} {_mark(reached(ratio, limit))}"
        )
    cells["paper"] = ABSENT if ratio["paper"] is None else f"{ratio['paper']:.2f}"
    return cells


def _barred(case: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    size = str(case["size"])
    for ratio in case["ratios"]:
        if ratio["bar"] is not None:
            mark = _mark(reached(ratio, ratio["bar"]))
            sign = "≥" if ratio["higher_is_better"] else "≤"
            value, bar = f"{ratio['median']:.2f} {mark}", f"{sign} {ratio['bar']:.3g}"
            yield f"{ratio['of']} / {ratio['to']}", size, value, bar
    if case["bar_bytes"] is not None:
        contender, found = next(iter(case["contenders"].items()))
        if "bytes" in found:
            limit = case["bar_bytes"]
            value = f"{bytes_text(found['bytes'])} {_mark(found['bytes'] <= limit)}"
        else:
            value = found["status"]
        yield contender, size, value, f"≤ {bytes_text(case['bar_bytes'])}"


def _mark(good: bool) -> str:
    return "✓" if good else "✗"
