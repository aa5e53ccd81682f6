"""An inspection as the page's script wants it: flat columns, four digits, no word twice."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

QUADRANTS = ("low S, low V", "low S, high V", "high S, low V", "high S, high V")

Number = int | float | None

_TOKEN_NUMBERS = ("surprisal", "entropy", "varentropy", "attention_entropy")


def compacted(inspection: Mapping[str, Any], *, alternatives: bool = True) -> dict[str, Any]:
    """What the script reads; a table is flat, row by row, a text stands once in `words`.

    Args:
        inspection: one that `check_inspection` let pass.
        alternatives: whether the tokens bring their alternatives (a baseline's do not).
    """
    maps = {name: _flat(rows) for name, rows in inspection["maps"].items()}
    return {
        "model": model_name(inspection),
        "kind": inspection["kind"],
        "layers": inspection["layers"],
        "heads": inspection["heads"],
        "inputs": [{"name": i["name"], "length": i["length"]} for i in inspection["inputs"]],
        # An observable that was computed nowhere has no panel.
        "maps": {name: cells for name, cells in maps.items() if any(c is not None for c in cells)},
        "histograms": {
            name: {
                "edges": _short(histogram["edges"]),
                "counts": [counts for row in histogram["counts"] for counts in row],
            }
            for name, histogram in (inspection.get("histograms") or {}).items()
        },
        "points": {
            key: _short(values) for key, values in (inspection.get("support_points") or {}).items()
        }
        or None,
        "tokens": _tokens(inspection["tokens"], alternatives) if inspection.get("tokens") else None,
        "thresholds": inspection.get("thresholds") or None,
    }


def model_name(inspection: Mapping[str, Any]) -> str:
    """The model as a title: of a path its last part (two, if that says little), of a name all."""
    model: str = inspection["model"]
    if not (model.startswith(("/", ".", "~")) or "\\" in model):
        return model
    parts = re.split(r"[/\\]+", model.rstrip("/\\"))
    little = re.fullmatch(r"model|weights|final|checkpoint.*", parts[-1])
    return "/".join(parts[-2:] if little else parts[-1:])


def _tokens(tokens: Sequence[Mapping[str, Any]], alternatives: bool) -> dict[str, Any]:
    words: dict[str, int] = {}

    def word(text: str) -> int:
        return words.setdefault(text, len(words))

    columns: dict[str, Any] = {
        "text": [word(token["text"]) for token in tokens],
        "input": [token.get("input") or 0 for token in tokens],
        "quadrant": [
            QUADRANTS.index(token["quadrant"]) if token.get("quadrant") in QUADRANTS else -1
            for token in tokens
        ],
    }
    for name in _TOKEN_NUMBERS:
        values = _short([token.get(name) for token in tokens])
        if any(value is not None for value in values):
            columns[name] = values
    if alternatives:
        columns["alternatives"] = [
            [
                part
                for text, probability in token.get("alternatives") or ()
                for part in (word(text), *_short([probability]))
            ]
            for token in tokens
        ]
    return columns | {"words": list(words)}


def _flat(rows: Sequence[Sequence[Number]]) -> list[Number]:
    return _short([cell for row in rows for cell in row])


def _short(values: Sequence[Number]) -> list[Number]:
    short = (None if value is None else float(f"{value:.4g}") for value in values)
    return [int(n) if n is not None and n.is_integer() else n for n in short]
