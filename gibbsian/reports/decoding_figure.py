"""Quality against realised entropy on the tuning split, and the differences on the test split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gibbsian.reports.curves import COLOURS
from gibbsian.reports.figures import STYLE

_BASELINES = ("temperature", "top-p", "min-p")
_MARKERS = "osD^vPX*<>"


def draw_decoding(results: Mapping[str, Any], path: Path) -> None:
    """One panel a subject, and one with the intervals of the differences."""
    subjects, comparisons = results["subjects"], results["comparisons"]
    with mpl.rc_context(STYLE):
        number = len(subjects) + len(comparisons)
        figure = Figure(figsize=(3.4 * number, 4.2), layout="constrained")
        panels = list(figure.subplots(1, number, squeeze=False)[0])
        for axes, (name, subject) in zip(panels, subjects.items(), strict=False):
            _draw_tuning(axes, name, subject)
        for axes, (name, found) in zip(panels[len(subjects) :], comparisons.items(), strict=True):
            _draw_differences(axes, name, found)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _draw_tuning(axes: Axes, name: str, subject: Mapping[str, Any]) -> None:
    text = name == "text"
    (greedy,) = subject["tuning"]["greedy"]["qualities"]
    axes.axhline(-greedy if text else greedy, color="0.5", ls="--", label="greedy")
    methods = {n: m for n, m in subject["tuning"].items() if n != "greedy"}
    for i, (method, found) in enumerate(methods.items()):
        axes.plot(
            found["entropies"],
            [-q if text else q for q in found["qualities"]],
            color=COLOURS[i % len(COLOURS)],
            ls=":" if method in _BASELINES else "-",
            marker=_MARKERS[i % len(_MARKERS)],
            markersize=4,
            label=method,
        )
    axes.set_title("distance from human text" if text else f"accuracy, {name}", fontsize=10)
    axes.set_xlabel("realised entropy, nats (tuning split)")


def _draw_differences(axes: Axes, name: str, found: Mapping[str, Any]) -> None:
    methods = list(found["tuned"])
    for shift, mode, colour in ((0.15, "tuned", COLOURS[0]), (-0.15, "matched", COLOURS[1])):
        for i, method in enumerate(methods):
            this = found[mode][method]
            y = len(methods) - 1 - i + shift
            axes.plot([this["low"], this["high"]], [y, y], color=colour)
            axes.plot(this["value"], y, "o", color=colour, markersize=4)
        axes.plot([], [], color=colour, label=mode)
    axes.axvline(0, color="0.5")
    axes.set_yticks(range(len(methods)), methods[::-1])
    what = "accuracy" if name == "answers" else "minus distance"
    axes.set_title(f"{name}: gain in {what}", fontsize=10)
    axes.legend(fontsize=8)
    axes.set_xlabel("over best baseline, or temperature")
