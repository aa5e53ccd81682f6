"""Still pictures of a comparison, for pages that run no script.

python -m gibbsian.reports.figures results/compare-novels.json docs/experiments/figures
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gibbsian.reports.curves import COLOURS

STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "gibbsian",  # the same file for the same results
}


def draw_comparison(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what a comparison found, one SVG a picture.

    `loss-and-products.svg`: validation loss against value products a token. `curves.svg`: loss on
    the probe batch, mean sparsity and mean support while training. `schedules.svg`: the schedules
    that were learned, by layer and head; only where one was.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        pictures = {"loss-and-products": _loss_and_products(results), "curves": _curves(results)}
        learned = [run for run in results["runs"] if run["schedules"]]
        if learned:
            pictures["schedules"] = _schedules(learned)
        paths = []
        for name, figure in pictures.items():
            paths.append(folder / f"{name}.svg")
            figure.savefig(paths[-1], metadata={"Date": None})
    return paths


def _colours(results: Mapping[str, Any]) -> dict[str, str]:
    names = [row["attention"] for row in results["summary"]]
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def _number(value: float | None) -> float:
    """What was measured; NaN, which is not drawn, where a run diverged."""
    return math.nan if value is None else value


def _loss_and_products(results: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    colours = _colours(results)
    for run in results["runs"]:
        axes.scatter(
            _number(run["value_products"]),
            _number(run["validation_bits_per_byte"]),
            color=colours[run["attention"]],
            alpha=0.8,
        )
    for row in results["summary"]:
        axes.annotate(
            row["attention"],
            (_number(row["value_products"]), _number(row["validation_bits_per_byte"])),
            textcoords="offset points",
            xytext=(7, 4),
            color=colours[row["attention"]],
        )
    axes.set_xlabel("value products a token")
    axes.set_ylabel("validation bits a byte")
    products = [_number(run["value_products"]) for run in results["runs"]]
    axes.set_xlim(left=0, right=1.15 * float(np.nanmax(products)))
    return figure


def _curves(results: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 3)
    colours = _colours(results)
    shown: set[str] = set()
    for run in results["runs"]:
        name = run["attention"]
        label = None if name in shown else name
        shown.add(name)
        probes = run["probes"]
        steps = [probe["step"] for probe in probes]
        bits = [_number(probe["bits_per_byte"]) for probe in probes]
        panels[0].plot(steps, bits, color=colours[name], label=label)
        for axes, field in zip(panels[1:], ("zeta", "support_fraction"), strict=True):
            means = [
                sum(_number(layer[field]) for layer in probe["layers"]) / len(probe["layers"])
                for probe in probes
            ]
            axes.plot(steps, means, color=colours[name])
    titles = ("bits a byte, probe batch", "mean sparsity ζ", "mean support, part of the keys")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
    # the last part of the descent, where the attentions differ
    bits = [_number(probe["bits_per_byte"]) for run in results["runs"] for probe in run["probes"]]
    low, high = float(np.nanmin(bits)), float(np.nanmax(bits))
    panels[0].set_ylim(0.98 * low, low + 0.4 * (high - low))
    figure.legend(loc="outside right center")
    return figure


def _schedules(runs: Sequence[Mapping[str, Any]]) -> Figure:
    names = sorted({name for run in runs for name in run["schedules"][0]})
    figure = Figure(figsize=(3.2 * len(names), 3.4), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for i, run in enumerate(runs):
            for layer, values in enumerate(run["schedules"]):
                if name in values:
                    heads = values[name]
                    offset = 0.16 * (i - (len(runs) - 1) / 2)
                    axes.scatter(
                        [layer + 1 + offset] * len(heads),
                        heads,
                        color=COLOURS[i % len(COLOURS)],
                        label=f"{run['attention']}, seed {run['seed']}" if layer == 0 else None,
                        alpha=0.8,
                    )
        axes.set_title(f"learned {name}", fontsize=10)
        axes.set_xlabel("layer (a point a head)")
        axes.set_xticks(range(1, len(runs[0]["schedules"]) + 1))
    panels[0].legend(fontsize=8)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the pictures of a comparison.")
    parser.add_argument("results", type=Path, help="results.json of `gibbsian compare`")
    parser.add_argument("folder", type=Path, help="where the SVG files go")
    arguments = parser.parse_args()
    draw_comparison(json.loads(arguments.results.read_text()), arguments.folder)
