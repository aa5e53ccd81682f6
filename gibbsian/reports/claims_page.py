"""The page of the claims, with its pictures.

python -m gibbsian.reports.claims_page results/claims.json .
"""

import argparse
import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gibbsian._errors import DataError
from gibbsian.reports.claims import CLAIM_COLUMNS, claim_rows, number_rows
from gibbsian.reports.claims_figures import draw_claims, figure_name

PAGE = Path("docs", "experiments", "claims.md")
FIGURES = PAGE.parent / "figures"


def claims_page(results: Mapping[str, Any]) -> str:
    """Markdown of the page: what was run, the table, and a section for each claim."""
    machine, versions = results["machine"], results["versions"]
    claims = results["claims"]
    counts = Counter(claim["verdict"] for claim in claims.values())
    verdicts = ", ".join(f"{count} {verdict!r}" for verdict, count in counts.most_common())
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    head = f"""# Claims

What the sources assert about attention rows and sampling, each settled by measurement. A verdict
is computed from the numbers by a rule that stands with the claim; a verdict against the source is
as good as one for it. Of {len(claims)} claims: {verdicts}.

The bounds of the rules were set before the full sizes were run, all but one. Three rules changed
after a first quick look: L1's now asks for the moments of real heads too (it asked for the shape
alone), L6's tells the range in which the matching line was fitted from all temperatures, and S3's
leaves out models on which no sampler ever has a benefit (it asked for a falling benefit there
too). What S3's is applied to changed again after a full run that was stopped at seven of nine
sources: a temperature above 1 among the samplers, and sources resampled. One was tightened after
the first full run: A3's part in n called any exponent below 0.95 "with a correction", and the
whole claim came out as "holds with a correction". But n^0.84 is not √n, and
the filters' own scan is linear, as
[the study of the filters](pruning.md#verdict-on-a3) had found: now no exponent above 0.55 holds,
and A3 "does not hold" ([log](LOG.md)).

**Command and file.** `{results["command"]} --output results/claims.json` writes
`results/claims.json`; this page and its pictures are made from it by
`python -m gibbsian.reports.claims_page results/claims.json .`
Measured on {machine["processor"]}, {machine["cores"]} cores; no number here is a time, and A3's
exponents of times are those of another run (results/pruning-times.json).
`gibbsian claims` alone measures the same at quick sizes, in about five minutes.

**Versions.** {packages}.

Intervals are of 95 %, Student's, over what the last column of each table of numbers says; those of
A3's heads, and of its times, and of what is said to be resampled, are from resampling them; those
of rank correlations are cut to [-1, 1]. What S1, S2 and S3 mean for who samples stands on
[a page of its own](sampling.md).

## Summary
"""
    titles = [column.title for column in CLAIM_COLUMNS]
    rows = [
        [f"[{row[0]}](#{_anchor(row[0])})", *map(_text, row[1:-1]), f"**{row[-1]}**"]
        for row in claim_rows(results)
    ]
    parts = [head, _table(titles, rows)]
    parts += [_section(claim, results) for claim in claims.values()]
    return "\n".join(parts)


def _section(claim: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    lines = [
        f"## {claim['id']}: {_text(claim['claim'])} {{ #{_anchor(claim['id'])} }}\n",
        f"**Verdict: {claim['verdict']}.** {_text(claim['why'])}\n",
        f"*Source.* {_text(claim['source'])}. {_text(claim['paper'])}\n",
        f"*Measured.* {_text(claim['how'])}\n",
        f"*Rule.* {_text(claim['rule'])}\n",
        f"*Scale.* {_text(claim['scale'])}.\n",
    ]
    lines += [
        f"*Not measured under the {name} above*, but: {_text(str(claim[name]))}.\n"
        for name in ("machine", "versions")
        if claim.get(name, results[name]) != results[name]
    ]
    if claim["missing"]:
        lines.append(f"*Not measured.* {_text(claim['missing'])}.\n")
    for picture in claim["pictures"]:
        path = (FIGURES / figure_name(claim["id"], picture["name"])).relative_to(PAGE.parent)
        caption = _text(picture["caption"])
        lines += [f"![{claim['id']}, {picture['name']}]({path.as_posix()})\n", f"*{caption}*\n"]
    rows = [[_text(cell) for cell in row] for row in number_rows(claim)]
    if rows:
        lines += [
            '<details markdown="1">\n<summary>All numbers</summary>\n',
            _table(["number", "value", "interval (largest: range)", "of"], rows),
            "</details>\n",
        ]
    return "\n".join(lines)


def _anchor(claim_id: str) -> str:
    return f"claim-{claim_id.lower()}"


def _text(words: str) -> str:
    """Words that Markdown leaves as they are, also in a table."""
    escaped = html.escape(words, quote=False)
    for mark in "\\|*_`":
        escaped = escaped.replace(mark, f"\\{mark}")
    # with a backslash they would begin a formula
    return escaped.replace("[", "&#91;").replace("]", "&#93;")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(titles)} |", f"| {' | '.join('---' for _ in titles)} |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def write_page(results: Mapping[str, Any], root: Path) -> list[Path]:
    """Write the page and its pictures.

    Args:
        results: of `gibbsian claims`.
        root: of the repository.

    Raises:
        DataError: the run was a quick one.
    """
    if results["settings"]["size"] != "full":
        raise DataError(
            "A page is made of a full run, got a quick one. Run `gibbsian claims --full`."
        )
    (root / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text(claims_page(results), encoding="utf-8")
    return [root / PAGE, *draw_claims(results, root / FIGURES)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the page of the claims.")
    parser.add_argument("results", type=Path, help="results of `gibbsian claims`")
    parser.add_argument("root", type=Path, help="root of the repository")
    arguments = parser.parse_args()
    write_page(json.loads(arguments.results.read_text(encoding="utf-8")), arguments.root)
