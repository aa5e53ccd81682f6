"""The results of `gibbsian bench` as tables: every contender, and one short line a question.

Only what was found right has a speed: a contender that was wrong, or could not run, shows that in
its place.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gibbsian.reports.table import ABSENT, Column

Results = Mapping[str, Any]
_Line = Mapping[str, Any]

GLOBAL_NOTE = (
    "A ratio is one of medians; its interval holds 95 % of such ratios when rounds are resampled "
    "(all of them below 6 rounds)."
)


def _cell(name: str) -> Any:
    return lambda line: line[name]


BENCH_COLUMNS = tuple(
    Column(title=title, meaning=meaning, text=_cell(title))
    for title, meaning in (
        ("case", "name, for `gibbsian bench NAME`"),
        ("contender", "what ran"),
        ("median", "of the rounds' times, or peak memory beyond the inputs"),
        ("quartiles", "first and third of the times"),
        ("first call", "the very first call, compilation included"),
        ("error", "largest error of a row found, relative, against the truth in float64"),
        ("to", "what the ratio divides by"),
        ("ratio", "of the medians, and its interval"),
        ("bar", "what has to be reached, and whether it is (≈ = within the interval)"),
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
        f"torch {results['versions']['torch']}, batch 1, float32 unless a line says bfloat16"
    )


def short_rows(results: Results) -> list[list[str]]:
    """One line a question that has a bar: what, over what, sizes, ratios, bars.

    Bars that were declared and not measured are there, with the reason.
    """
    found: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    run, declared = results["cases"], results["declared"]
    unrun = [_unrun(case) for case in declared if case["case"] not in run]
    for case in (*run.values(), *unrun):
        for what, size, value, bar in _barred(case):
            found.setdefault((case["group"], what), []).append((size, value, bar))
    return [
        [group, what, *(", ".join(parts) for parts in zip(*values, strict=True))]
        for (group, what), values in found.items()
    ]


def not_measured(results: Results) -> list[str]:
    """A line for each contender that was wrong or could not run, and why."""
    return [
        f"`{name}`, {contender}: {_measured(found)['median']}"
        for name, case in results["cases"].items()
        for contender, found in case["contenders"].items()
        if found["status"] != "ok"
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


def verdict(ratio: Mapping[str, Any], limit: float) -> str:
    """Whether a measured ratio reaches a limit: ✓, ✗, or ≈ where the interval is on both sides."""
    if ratio["low"] < limit < ratio["high"]:
        return "≈"
    value: float = ratio["ratio"]
    return _mark(value >= limit if ratio["higher_is_better"] else value <= limit)


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
        "ratio": _ratio_text(ratio),
    }
    sign = "≥" if ratio["higher_is_better"] else "≤"
    for name in ("bar", "aim"):
        limit = ratio[name]
        if limit is None:
            cells[name] = ABSENT
        else:
            mark = "" if ratio["ratio"] is None else f" {verdict(ratio, limit)}"
            cells[name] = f"{sign} {limit:.3g}{mark}"
    cells["paper"] = ABSENT if ratio["paper"] is None else f"{ratio['paper']:.2f}"
    return cells


def _ratio_text(ratio: Mapping[str, Any]) -> str:
    if ratio["ratio"] is None:
        return f"not measured: {ratio['reason']}"
    return f"{ratio['ratio']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _barred(case: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    size = str(case["size"])
    for ratio in case["ratios"]:
        if ratio["bar"] is not None:
            sign = "≥" if ratio["higher_is_better"] else "≤"
            value = (
                f"not measured: {ratio['reason']}"
                if ratio["ratio"] is None
                else f"{ratio['ratio']:.2f} {verdict(ratio, ratio['bar'])}"
            )
            yield f"{ratio['of']} / {ratio['to']}", size, value, f"{sign} {ratio['bar']:.3g}"
    if case["bar_bytes"] is not None:
        contender, found = next(iter(case["contenders"].items()))
        if "bytes" in found:
            limit = case["bar_bytes"]
            value = f"{bytes_text(found['bytes'])} {_mark(found['bytes'] <= limit)}"
        else:
            value = f"not measured: {contender} {found['status']}"
        yield contender, size, value, f"≤ {bytes_text(case['bar_bytes'])}"


def _unrun(case: Mapping[str, Any]) -> dict[str, Any]:
    """A declared case that was not run, in the form of one that was."""
    ratios = [{**ratio, "ratio": None, "reason": "not run"} for ratio in case["ratios"]]
    contenders = {case["contender"]: {"status": "not run"}}
    return {**case, "ratios": ratios, "contenders": contenders}


def _mark(good: bool) -> str:
    return "✓" if good else "✗"
