"""Is it an inspection? Checked before a page is made of it, so that no half page is shown."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from gibbsian._errors import DataError

SCHEMA = 1
KINDS = ("causal", "encoder", "vision")
POINTS = ("layer", "head", "zeta", "measured", "predicted")
TOKEN_NUMBERS = ("surprisal", "entropy", "varentropy", "attention_entropy")


def check_inspection(inspection: Mapping[str, Any], name: str) -> None:
    """Return if the page can be made of `inspection`, called `name` in the error if not.

    Raises:
        DataError: the first thing that does not fit, in one line.
    """
    _Checker(inspection, name).check()


class _Checker:
    def __init__(self, inspection: Mapping[str, Any], name: str) -> None:
        self.inspection = inspection
        self.name = name

    def check(self) -> None:
        found = self.inspection.get("schema")
        if found != SCHEMA:
            self.fail("schema", f"must be {SCHEMA}, got {found!r}")
        if not isinstance(self.inspection.get("model"), str):
            self.fail("model", f"must be a text, got {self.inspection.get('model')!r}")
        if self.inspection.get("kind") not in KINDS:
            self.fail("kind", f"must be one of {KINDS}, got {self.inspection.get('kind')!r}")
        sizes = []
        for key in ("layers", "heads"):
            size = self.inspection.get(key)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                self.fail(key, f"must be an integer >= 1, got {size!r}")
            sizes.append(int(size or 0))
        layers, heads = sizes
        self.inputs()
        maps = self.mapping("maps")
        if not maps:
            self.fail("maps", "must hold one observable or more, got none")
        for key, values in maps.items():
            self.grid(f"maps.{key}", values, layers, heads, self.number)
        for key, histogram in self.mapping("histograms").items():
            self.histogram(f"histograms.{key}", histogram, layers, heads)
        self.points(layers, heads)
        self.tokens()

    def inputs(self) -> None:
        inputs = self.inspection.get("inputs")
        if not _is_list(inputs) or not inputs:
            self.fail("inputs", f"must be a list of one input or more, got {_short(inputs)}")
        for i, entry in enumerate(inputs or ()):
            if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
                self.fail(f"inputs[{i}]", f"must be {{name, length}}, got {_short(entry)}")
            self.number(f"inputs[{i}].length", entry.get("length"))

    def mapping(self, key: str) -> Mapping[str, Any]:
        found = self.inspection.get(key) or {}
        if not isinstance(found, Mapping):
            self.fail(key, f"must be an object, got {_short(found)}")
        return found

    def grid(self, key: str, values: Any, layers: int, heads: int, check: Any) -> None:
        rule = f"must be {layers} layers x {heads} heads"
        if not _is_list(values) or not all(map(_is_list, values)):
            self.fail(key, f"{rule}, got {_short(values)}")
        shape = (len(values), *sorted({len(row) for row in values}))
        if shape != (layers, heads):
            self.fail(key, f"{rule}, got shape {shape}")
        for layer, row in enumerate(values):
            for head, value in enumerate(row):
                check(f"{key}[{layer}][{head}]", value)

    def number(self, key: str, value: Any) -> None:
        if value is None:
            return
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            self.fail(key, f"must be a finite number or null, got {_short(value)}")

    def histogram(self, key: str, histogram: Any, layers: int, heads: int) -> None:
        if not isinstance(histogram, Mapping) or not _is_list(histogram.get("edges")):
            self.fail(key, f"must be {{edges, counts}}, got {_short(histogram)}")
        edges = histogram["edges"]
        for i, edge in enumerate(edges):
            self.number(f"{key}.edges[{i}]", edge)
        if len(edges) < 2 or any(a is None or not a < b for a, b in pairwise(edges)):
            self.fail(f"{key}.edges", f"must be two or more rising numbers, got {_short(edges)}")

        def counts(place: str, found: Any) -> None:
            if found is None:  # an absent head
                return
            if not _is_list(found) or len(found) != len(edges) - 1:
                self.fail(place, f"must be {len(edges) - 1} counts, got {_short(found)}")
            for i, count in enumerate(found):
                self.number(f"{place}[{i}]", count)

        self.grid(f"{key}.counts", histogram.get("counts"), layers, heads, counts)

    def points(self, layers: int, heads: int) -> None:
        points = self.mapping("support_points")
        if not points:
            return
        for key in POINTS:
            if not _is_list(points.get(key)) or len(points[key]) != len(points[POINTS[0]]):
                rule = f"must be a list as long as {POINTS[0]!r}"
                self.fail(f"support_points.{key}", f"{rule}, got {_short(points.get(key))}")
            for i, value in enumerate(points[key]):
                self.number(f"support_points.{key}[{i}]", value)
        for key, size in (("layer", layers), ("head", heads)):
            for i, value in enumerate(points[key]):
                if not isinstance(value, int) or not 0 <= value < size:
                    self.fail(
                        f"support_points.{key}[{i}]", f"must be in [0, {size}), got {value!r}"
                    )

    def tokens(self) -> None:
        tokens = self.inspection.get("tokens")
        if tokens is None:
            return
        if not _is_list(tokens):
            self.fail("tokens", f"must be a list or null, got {_short(tokens)}")
        inputs = len(self.inspection["inputs"])
        for i, token in enumerate(tokens):
            place = f"tokens[{i}]"
            if not isinstance(token, Mapping) or not isinstance(token.get("text"), str):
                self.fail(place, f"must be an object with a `text`, got {_short(token)}")
            for key in TOKEN_NUMBERS:
                self.number(f"{place}.{key}", token.get(key))
            if not isinstance(token.get("quadrant"), str | None):
                self.fail(f"{place}.quadrant", f"must be a text, got {_short(token['quadrant'])}")
            index = token.get("input") or 0
            if not isinstance(index, int) or not 0 <= index < inputs:
                self.fail(f"{place}.input", f"must be in [0, {inputs}), got {_short(index)}")
            alternatives = token.get("alternatives") or []
            if not _is_list(alternatives) or not all(map(_is_alternative, alternatives)):
                rule = "must be a list of [text, probability]"
                self.fail(f"{place}.alternatives", f"{rule}, got {_short(alternatives)}")

    def fail(self, key: str, problem: str) -> None:
        where = f"`{key}` of the {self.name}"
        raise DataError(f"{where} {problem}. Write it with `gibbsian inspect` of this version.")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_alternative(value: Any) -> bool:
    return (
        _is_list(value)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
        and math.isfinite(value[1])
    )


def _short(value: Any) -> str:
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else shown[:57] + "..."
