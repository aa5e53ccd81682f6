"""The page of a benchmark's results, its pictures, and README's short table.

python -m gibbsian.reports.bench_page results/bench.json [MORE.json ...] .

Of a case that several files hold the last one counts.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gibbsian._errors import DataError
from gibbsian.reports.bench import (
    BENCH_COLUMNS,
    GLOBAL_NOTE,
    bench_rows,
    bench_title,
    markdown_table,
    not_measured,
    short_rows,
)
from gibbsian.reports.bench_figures import draw_bench

PAGE = Path("docs", "experiments", "bench.md")
FIGURE = PAGE.parent / "figures" / "bench.svg"
README = Path("README.md")
BEGIN, END = "<!-- bench: made by gibbsian.reports.bench_page -->", "<!-- /bench -->"
_COLUMNS_NOTE = """**Columns.** *bar* is the limit that the case sets for the ratio (or for the
bytes): ✓ where the ratio and its whole interval reach it, ✗ where nothing of them does, ≈ where the
bar lies within the interval, so that another run may well end on its other side. *aim* is a second
limit, which would be better still. *paper* is the ratio that the LLN paper's Table 2 states for the
same comparison, on other hardware."""
_SHORT = ("what", "over", "size", "measured", "bar")
_IN_PAGE = ("contender", "median", "quartiles", "to", "ratio", "bar", "aim", "paper")


def combined(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Results of several runs as one, with `commands`.

    Those are of each run its file, its command, how many cases are shown, and what the package's
    sources were.

    Args:
        files: results by the path of their file; the last that has a case gives it. Settings are
            those of the first.

    Raises:
        DataError: the runs are of several machines, or with several versions of a package.
    """
    (first, whole), *others = files.items()
    cases, declared = dict(whole["cases"]), whole["declared"]
    for file, later in others:
        for what in ("machine", "versions"):
            if later[what] != whole[what]:
                raise DataError(
                    "A page is made of runs on one machine with the same versions, got another "
                    f"{what} in {file}."
                )
        cases |= later["cases"]
        declared = later["declared"]
    commands = [(first, _command(whole, first), len(whole["cases"]), whole["source"])]
    for file, later in others:
        command = _command(later, file, " ".join(later["cases"]))
        commands.append((file, command, len(later["cases"]), later["source"]))
    order = {case["case"]: i for i, case in enumerate(declared)}
    known = sorted(cases, key=lambda name: order.get(name, len(order)))
    return {
        **whole,
        "cases": {name: cases[name] for name in known},
        "declared": declared,
        "commands": commands,
    }


def _command(results: Mapping[str, Any], file: str, cases: str = "") -> str:
    """The command of a run with these settings; without names over all cases."""
    settings = results["settings"]
    options = " ".join(f"--{name} {settings[name]:g}" for name in ("repeats", "budget", "threads"))
    return " ".join(("gibbsian bench", *([cases] if cases else []), options, f"--output {file}"))


def bench_page(results: Mapping[str, Any]) -> str:
    """Markdown of the page: machine, summary, picture, a table for each question."""
    machine, versions = results["machine"], results["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    file, command, _, source = results["commands"][0]
    files = [found[0] for found in results["commands"]]
    head = f"""# Speed and memory

What each operation of gibbsian costs beside other implementations of the same or of a similar one,
each case in one run, on one machine. How to read it, and how to run it:
[Benchmark](../usage/bench.md).

**Command and file.** `{command}`
writes `{file}` (sources of the package: SHA-256 {source[:8]}); this page is made from it by
`python -m gibbsian.reports.bench_page {" ".join(files)} .`

{_others(results["commands"])}The flags are the settings of a run: at most
`--repeats` rounds a case, no further round of a case after `--budget` seconds (three are always
made), and `--threads` threads.

**Machine.** {machine["processor"]}, {machine["cores"]} cores, {machine["system"]}.

**Versions.** {packages}.

{_COLUMNS_NOTE}

## Summary

{GLOBAL_NOTE} Sizes, ratios (or bytes) and bars stand in the same order.
"""
    parts = [
        head,
        markdown_table(_SHORT, short_rows(results), left=2),
        *_not_measured(results),
        "## Time against length\n",
        f"![Seconds of a call against the length, log-log]({FIGURE.relative_to(PAGE.parent)})\n",
        *_groups(results),
    ]
    return "\n".join(parts)


def _others(commands: list[tuple[str, str, int, str]]) -> str:
    """What was measured by itself."""
    return "".join(
        f"{number} cases were measured in another run (sources {source[:8]}), and stand here as in "
        f"`{file}`, by\n`{command}`\n\n"
        for file, command, number, source in commands[1:]
    )


def _not_measured(results: Mapping[str, Any]) -> list[str]:
    """What ran and gave no figure, if there is any."""
    lines = [f"- {line}" for line in not_measured(results)]
    return ["\n".join(("Not measured:\n", *lines)) + "\n"] if lines else []


def _groups(results: Mapping[str, Any]) -> list[str]:
    titles = [column.title for column in BENCH_COLUMNS]
    kept = [titles.index(title) for title in _IN_PAGE]
    cells: dict[str, list[list[str]]] = {}
    for row in bench_rows(results):
        cells.setdefault(row[0], []).append([row[i] for i in kept])
    parts: list[str] = []
    grouped: dict[str, list[str]] = {}
    for name, case in results["cases"].items():
        grouped.setdefault(case["group"], []).append(name)
    for group, names in grouped.items():
        parts.append(f"## {group}\n")
        rows = [
            [str(results["cases"][name]["size"]), *row] for name in names for row in cells[name]
        ]
        parts.append(markdown_table(("size", *_IN_PAGE), rows, left=2))
        parts += _remarks(results, names)
    return parts


def _remarks(results: Mapping[str, Any], names: list[str]) -> list[str]:
    """Measured properties of the tensors, and what has to be known of the contenders."""
    remarks = []
    for name in names:
        facts = results["cases"][name]["facts"]
        if facts:
            shown = ", ".join(f"{key} {value:.4f}" for key, value in facts.items())
            remarks.append(f"- `{name}`: {shown}")
    notes = {
        contender: found["note"]
        for name in names
        for contender, found in results["cases"][name]["contenders"].items()
        if found["note"]
    }
    remarks += [f"- {contender}: {note}" for contender, note in notes.items()]
    return ["\n".join(remarks) + "\n"] if remarks else []


def readme_table(results: Mapping[str, Any]) -> str:
    """The short table with its command, for README."""
    order = "sizes, ratios and bars in the same order; ≈ is a bar within the ratio's interval"
    (_, command, *_), *others = results["commands"]
    moved = sum(number for _, _, number, _ in others)
    where = f"by the other commands on [the page]({PAGE.as_posix()})"
    more = f" ({moved} cases {where})" if moved else ""
    return "\n".join(
        (
            f"`{command}`{more} on {bench_title(results)} ({order}):\n",
            markdown_table(_SHORT, short_rows(results), left=2),
            *_not_measured(results),
        )
    )


def replace_between(text: str, table: str) -> str:
    """`text` with the table between the two marks.

    Raises:
        DataError: the marks are not there.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise DataError(f"README must hold the lines {BEGIN!r} and {END!r}, got a file without.")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def write_page(results: Mapping[str, Any], root: Path) -> list[Path]:
    """Write the page and its picture, and the table in README.

    Args:
        results: of `gibbsian bench`, from `combined`.
        root: of the repository.

    Raises:
        DataError: a result is wrong, the run was a quick one, or README has no marks.
    """
    if results["settings"]["quick"]:
        raise DataError("A page is made of a full run, got a quick one. Run `gibbsian bench`.")
    wrong = [
        name
        for name, case in results["cases"].items()
        if any(found["status"] == "WRONG" for found in case["contenders"].values())
    ]
    if wrong:
        raise DataError(f"A page is made of right results only, got wrong ones in {wrong}.")
    readme = root / README
    new = replace_between(readme.read_text(encoding="utf-8"), readme_table(results))
    (root / FIGURE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text(bench_page(results), encoding="utf-8")
    draw_bench(results, root / FIGURE)
    readme.write_text(new, encoding="utf-8")
    return [root / PAGE, root / FIGURE, readme]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the page of a benchmark's results.")
    parser.add_argument("results", nargs="+", help="results of `gibbsian bench`, within the root")
    parser.add_argument("root", type=Path, help="root of the repository")
    arguments = parser.parse_args()
    root: Path = arguments.root
    read = {file: json.loads((root / file).read_text("utf-8")) for file in arguments.results}
    write_page(combined(read), root)
