"""The pictures of the claims, drawn from the plain curves in the results.

python -m gibbsian.reports.claims_figures results/claims.json docs/experiments/figures
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gibbsian.reports.curves import COLOURS
from gibbsian.reports.figures import STYLE

_PALETTE = (*COLOURS, "#000000", "#7f7f7f")
_MARKERS = "os^DvP"
_PANEL = (4.0, 3.2)
_LEGEND_COLUMNS = 4
_CELL = 0.36
_DARK = 0.6
"""Shades below it need white letters."""


def figure_name(claim_id: str, picture: str) -> str:
    """File name of a claim's picture."""
    return f"claims-{claim_id.lower()}-{picture}.svg"


def draw_claims(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw every picture of every claim, one SVG each.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with mpl.rc_context(STYLE):
        for claim in results["claims"].values():
            for picture in claim["pictures"]:
                paths.append(folder / figure_name(claim["id"], picture["name"]))
                draw_picture(picture).savefig(paths[-1], metadata={"Date": None})
    return paths


def draw_picture(picture: Mapping[str, Any]) -> Figure:
    """The panels side by side, one legend below: a name has one colour in all of them."""
    panels = picture["panels"]
    if "values" in panels[0]:
        return _draw_grids(panels)
    width, height = _PANEL
    names = list(dict.fromkeys(s["name"] for panel in panels for s in panel["series"]))
    columns = max(1, min(_LEGEND_COLUMNS, len(panels) * 2, len(names)))
    height += 0.24 * -(-len(names) // columns)
    figure = Figure(figsize=(width * max(len(panels), 1.4), height), layout="constrained")
    handles: dict[str, Any] = {}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, panel, names, handles)
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower center",
        ncols=columns,
        fontsize=9,
    )
    return figure


def _draw_panel(
    axes: Axes, panel: Mapping[str, Any], names: Sequence[str], handles: dict[str, Any]
) -> None:
    for series in panel["series"]:
        number = names.index(series["name"])
        colour = _PALETTE[number % len(_PALETTE)]
        # a second round of colours has dotted lines
        plain = "-" if number < len(_PALETTE) else ":"
        x, y, style = series["x"], series["y"], series["style"]
        if style == "points":
            many = len(x) > 40
            (handle,) = axes.plot(
                x,
                y,
                linestyle="none",
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=2.5 if many else 4.5,
                alpha=0.5 if many else 0.9,
                color=colour,
            )
        else:
            (handle,) = axes.plot(
                x,
                y,
                color=colour,
                linestyle="--" if style == "dashed" else plain,
                drawstyle="steps-mid" if style == "steps" else "default",
            )
        if series["low"]:
            if style == "points":
                axes.vlines(x, series["low"], series["high"], color=colour, linewidth=1)
            else:
                axes.fill_between(x, series["low"], series["high"], color=colour, alpha=0.15)
        handles.setdefault(series["name"], handle)
    axes.set_xscale(panel["x_scale"])
    axes.set_yscale(panel["y_scale"])
    axes.set_title(panel["title"], fontsize=10)
    axes.set_xlabel(panel["x_label"])
    axes.set_ylabel(panel["y_label"])
    if panel.get("x_ticks"):
        axes.set_xticks(range(len(panel["x_ticks"])), panel["x_ticks"], rotation=25, fontsize=8)


def _draw_grids(grids: Sequence[Mapping[str, Any]]) -> Figure:
    """Matrices below each other, with their numbers in hundredths."""
    rows = [len(grid["rows"]) for grid in grids]
    figure = Figure(figsize=(_CELL * max(rows) + 2.2, _CELL * sum(rows) + 1.5 * len(rows)),
                    layout="constrained")  # fmt: skip
    every = figure.subplots(len(grids), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, grid in zip(every, grids, strict=True):
        shown = axes.imshow(grid["values"], vmin=0, vmax=1, cmap="viridis")
        axes.grid(visible=False)
        for i, values in enumerate(grid["values"]):
            for j, value in enumerate(values):
                colour = "white" if value < _DARK else "black"
                text = str(round(100 * value))
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
        axes.set_xticks(range(len(grid["columns"])), grid["columns"], rotation=40, ha="right")
        axes.set_yticks(range(len(grid["rows"])), grid["rows"])
        axes.set_title(grid["title"], fontsize=10)
        axes.set_xlabel(grid["x_label"])
        axes.set_ylabel(grid["y_label"])
        figure.colorbar(shown, ax=axes, shrink=0.6)
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the pictures of the claims.")
    parser.add_argument("results", type=Path, help="results of `gibbsian claims`")
    parser.add_argument("folder", type=Path, help="where the SVG files go")
    arguments = parser.parse_args()
    draw_claims(json.loads(arguments.results.read_text(encoding="utf-8")), arguments.folder)
