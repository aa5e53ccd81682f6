"""What to look at first: short sentences computed from an inspection, each leading to a place."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UNMOVED = 1e-6
"""Changes up to here are none: the numbers have six digits."""
WEAK = 0.1
"""Below this sparsity linear response is told apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One sentence, and where the page goes when it is chosen."""

    title: str
    text: str
    map: str | None = None
    head: tuple[int, int] | None = None
    token: int | None = None


def find(inspection: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> list[Finding]:
    """The findings whose data are there, in the order of the page."""
    rules: list[Callable[[Mapping[str, Any]], Iterator[Finding]]] = [
        _depth,
        _sinks,
        _collapsed,
        _sparsity,
        _prediction,
        _tokens,
    ]
    changes = [] if baseline is None else list(_changes(inspection, baseline))
    return changes + [finding for rule in rules for finding in rule(inspection)]


def _depth(inspection: Mapping[str, Any]) -> Iterator[Finding]:
    rows = inspection["maps"].get("normalized_entropy", ())
    means = {
        layer: statistics.fmean(present)
        for layer, row in enumerate(rows)
        if (present := [value for value in row if value is not None])
    }
    if len(means) < 2:
        return
    flat, sharp = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    yield Finding(
        title="Depth",
        text=f"Attention is widest in layer {flat} (S / log n is {means[flat]:.2f} on average) "
        f"and most concentrated in layer {sharp} ({means[sharp]:.2f}).",
        map="normalized_entropy",
    )


def _sinks(inspection: Mapping[str, Any]) -> Iterator[Finding]:
    cells = _cells(inspection, "sink_mass")
    if not cells:
        return
    top = max(cells, key=cells.__getitem__)
    many = sum(value > 0.5 for value in cells.values())
    if many:
        verb = "gives more than half of its" if many == 1 else "give more than half of their"
        text = f"{many} of {len(cells)} heads {verb} attention to the first position; "
        text += f"{_name(top).lower()} gives it {cells[top]:.0%}."
        yield Finding(title="Sinks", text=text, map="sink_mass", head=top)


def _collapsed(inspection: Mapping[str, Any]) -> Iterator[Finding]:
    cells = _cells(inspection, "normalized_entropy")
    if not cells:
        return
    low = min(cells, key=cells.__getitem__)
    many = sum(value < 0.05 for value in cells.values())
    if many:
        if many == 1:
            text = f"{_name(low)} alone has S / log n below 0.05: {cells[low]:.3f}."
        else:
            text = f"{many} of {len(cells)} heads have S / log n below 0.05. "
            text += f"{_name(low)} is the sharpest at {cells[low]:.3f}."
        yield Finding(
            title="Nearly one key",
            text=text,
            map="normalized_entropy",
            head=low,
        )


def _sparsity(inspection: Mapping[str, Any]) -> Iterator[Finding]:
    if (inspection.get("schedule") or {}).get("name") == "constant":  # all heads alike
        return
    zeta, kept = _cells(inspection, "zeta"), _cells(inspection, "support_size")
    if not zeta:
        return
    top = max(zeta, key=zeta.__getitem__)
    keys = f", {_count(kept[top])} keys kept" if top in kept else ""
    dense = sum(value < 0.05 for value in zeta.values())
    yield Finding(
        title="Sparsity",
        text=f"The schedule would make {_name(top).lower()} the sparsest (ζ = "
        f"{zeta[top]:.2f}{keys}) and leave {dense} of {len(zeta)} heads dense (ζ below 0.05).",
        map="zeta",
        head=top,
    )


def _prediction(inspection: Mapping[str, Any]) -> Iterator[Finding]:
    points = inspection.get("support_points") or {}
    rows = [
        (zeta, 0.5 <= predicted / measured <= 2)
        for zeta, measured, predicted in zip(
            *(points.get(name, ()) for name in ("zeta", "measured", "predicted")), strict=True
        )
        if measured and predicted and measured > 0 and predicted > 0
    ]
    if not rows:
        return
    text = f"Linear response foretells the effective support of {_share(rows):.0%} of the sampled "
    text += "rows within a factor of two"
    weak = [row for row in rows if row[0] is not None and row[0] < WEAK]
    if 0 < len(weak) < len(rows):
        text += f", and of {_share(weak):.0%} of those with ζ below {WEAK}"
    yield Finding(title="Prediction", text=text + ".", map="predicted_support")


def _share(rows: list[tuple[float | None, bool]]) -> float:
    return sum(close for _, close in rows) / len(rows)


def _tokens(inspection: Mapping[str, Any]) -> Iterator[Finding]:
    tokens = inspection.get("tokens") or ()
    surprising = {
        i: token["surprisal"]
        for i, token in enumerate(tokens)
        if token.get("surprisal") is not None
    }
    if not surprising:
        return
    top = max(surprising, key=surprising.__getitem__)
    text = f"The text costs {statistics.fmean(surprising.values()):.2f} nats a token; "
    text += (
        f"the greatest surprise is {_quoted(tokens[top]['text'])} at {surprising[top]:.1f} nats."
    )
    torn = sum(token.get("quadrant") == "high S, high V" for token in tokens)
    if torn:
        text += f" {torn / len(tokens):.0%} of the tokens were drawn from high S, high V."
    yield Finding(title="Text", text=text, token=top)


def _changes(inspection: Mapping[str, Any], baseline: Mapping[str, Any]) -> Iterator[Finding]:
    if any(inspection[key] != baseline[key] for key in ("layers", "heads")):
        return
    now, then = (_cells(side, "normalized_entropy") for side in (inspection, baseline))
    changes = {place: now[place] - then[place] for place in now.keys() & then.keys()}
    if not changes:
        return
    top = max(sorted(changes), key=lambda place: abs(changes[place]))
    mean = statistics.fmean(changes.values())
    if abs(changes[top]) <= UNMOVED:
        text = "Against the baseline, no difference in S / log n"
        if others := _moved(inspection, baseline):
            text += f", but in other maps ({', '.join(others[:3])})"
        text += "."
    else:
        text = f"Against the baseline, S / log n moved by {mean:+.3f} on average; most in "
        text += f"{_name(top).lower()}, from {then[top]:.2f} to {now[top]:.2f}."
    yield Finding(
        title="Change",
        text=text.replace("-", "−") + _not_alone(inspection, baseline),
        map="normalized_entropy",
        head=None if abs(changes[top]) <= UNMOVED else top,
    )


def _moved(inspection: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """Names of the maps that are not the baseline's."""
    moved = []
    for name in inspection["maps"].keys() & baseline["maps"].keys():
        now, then = (_cells(side, name) for side in (inspection, baseline))
        if any(abs(now[place] - then[place]) > UNMOVED for place in now.keys() & then.keys()):
            moved.append(name.replace("_", " "))
    return sorted(moved)


def _not_alone(inspection: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """A sentence that warns of a comparison of more than models; empty if there is no need."""
    sides = (inspection, baseline)
    inputs, then = ([(i["name"], i["length"]) for i in side["inputs"]] for side in sides)
    differ = ["inputs"] if inputs != then else []
    if (inspection.get("schedule") or {}) != (baseline.get("schedule") or {}):
        differ.append("schedules")
    if not differ:
        return ""
    return f" The {' and the '.join(differ)} differ: a difference is not the model's alone."


def _cells(inspection: Mapping[str, Any], name: str) -> dict[tuple[int, int], float]:
    return {
        (layer, head): value
        for layer, row in enumerate(inspection["maps"].get(name, ()))
        for head, value in enumerate(row)
        if value is not None
    }


def _name(place: tuple[int, int]) -> str:
    return f"Layer {place[0]}, head {place[1]}"


def _count(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _quoted(text: str) -> str:
    shown = text.strip() or repr(text)[1:-1]
    return "“" + (shown if len(shown) <= 24 else shown[:23] + "…") + "”"
