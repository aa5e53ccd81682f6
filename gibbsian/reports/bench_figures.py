"""Time against length, log-log: one panel a question."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from gibbsian.reports.curves import COLOURS
from gibbsian.reports.figures import STYLE

_COLUMNS = 3
_MARKERS = "osD^v<>P"


def draw_bench(results: Mapping[str, Any], path: Path) -> None:
    """Draw every group of cases that was timed at two lengths or more, as one SVG."""
    groups = _curves(results)
    if not groups:
        groups = {"no group was timed at two lengths": {}}
    rows = -(-len(groups) // _COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * _COLUMNS, 3.6 * rows), layout="constrained")
        panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
        for axes, (title, lines) in zip(panels, groups.items(), strict=False):
            for i, (name, points) in enumerate(lines.items()):
                sizes, seconds = zip(*points, strict=True)
                axes.plot(
                    sizes,
                    seconds,
                    color=COLOURS[i % len(COLOURS)],
                    marker=_MARKERS[i % len(_MARKERS)],
                    label=name,
                )
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_title("\n".join(textwrap.wrap(title, 44)), fontsize=9)
            axes.set_xlabel("length")
            axes.set_ylabel("seconds")
            if lines:
                axes.legend(fontsize=7)
        for axes in panels[len(groups) :]:
            axes.set_axis_off()
        figure.savefig(path, metadata={"Date": None})


def _curves(results: Mapping[str, Any]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Points by group and contender, of the groups with two lengths or more."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for case in results["cases"].values():
        for name, contender in case["contenders"].items():
            if contender["status"] == "ok" and "seconds" in contender:
                lines = found.setdefault(case["group"], {})
                point = (case["size"], contender["seconds"]["median"])
                lines.setdefault(name, []).append(point)
    return {
        group: {name: sorted(points) for name, points in lines.items()}
        for group, lines in found.items()
        if len({size for points in lines.values() for size, _ in points}) > 1
    }
