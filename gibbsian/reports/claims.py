"""What `gibbsian claims` found, as rows of text."""

from collections.abc import Mapping
from typing import Any

from gibbsian.reports.table import Column

Results = Mapping[str, Any]


_KINDS = {
    "mean": "mean over",
    "largest": "largest of",
    "resampled": "resampled over",
    "p-value": "p-value over",
}


def _cell(name: str) -> Any:
    return lambda claim: claim[name]


CLAIM_COLUMNS = tuple(
    Column(title=title, meaning=meaning, text=_cell(name))
    for title, name, meaning in (
        ("id", "id", "for `gibbsian claims ID`"),
        ("claim", "claim", "what the source asserts"),
        ("source", "source", "where"),
        ("measured", "why", "the numbers that decided"),
        ("verdict", "verdict", "by the rule that stands with the claim"),
    )
)


def claim_rows(results: Results) -> list[list[str]]:
    """The cells of every claim, in the order of `CLAIM_COLUMNS`."""
    return [
        [column.text(claim) for column in CLAIM_COLUMNS] for claim in results["claims"].values()
    ]


def number_rows(claim: Mapping[str, Any]) -> list[list[str]]:
    """Name, value, interval and repetitions of everything that was measured for a claim."""
    rows = []
    for name, found in claim["measurement"].items():
        kind = _KINDS[found["kind"]]
        rows.append(
            [
                name,
                short(found["value"]),
                f"{short(found['low'])} to {short(found['high'])}",
                f"{kind} {found['count']} {found['over']}",
            ]
        )
    return rows


def short(value: float | None) -> str:
    """Four significant digits; errors at the level of rounding in powers of ten."""
    if value is None:
        return "not finite"
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e5:
        return f"{value:.1e}"
    return f"{value:.4g}"
