"""Keys that a decoding row reads against the number of keys, one panel a source.

python -m gibbsian.reports.pruning_figures results/pruning.json docs/experiments/figures/pruning.svg
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gibbsian.reports.curves import COLOURS
from gibbsian.reports.figures import STYLE

_SHOWN = (
    "blocks of sqrt n, box",
    "blocks of 64, box",
    "sqrt n clusters, ball",
    "d/2 directions, int8",
    "int8, centred",
    "cascade",
)
_MARKERS = "osD^vP"
_COLUMNS = 3


def draw_pruning(results: Mapping[str, Any], path: Path) -> None:
    """Draw what decoding reads under each filter (bounds and visited keys), as one SVG."""
    sources = [source for source in results["sources"] if source["mode"] == "decode"]
    rows = -(-(len(sources) + 1) // _COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * _COLUMNS, 3.4 * rows), layout="constrained")
        panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
        for axes, source in zip(panels, sources, strict=False):
            _draw_source(axes, source)
        for axes in panels[len(sources) :]:
            axes.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        panels[len(sources)].legend(handles, labels, loc="center", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})


def _draw_source(axes: Axes, source: Mapping[str, Any]) -> None:
    keys = source["keys_seen"]
    axes.plot(keys, keys, color="0.5", label="all keys")
    axes.plot(keys, [count**0.5 for count in keys], color="0.5", ls=":", label="square root of n")
    candidates = source["candidates"]["by_keys"]
    axes.plot(keys, candidates, color="0.5", ls="--", label="candidates")
    for name, colour, marker in zip(_SHOWN, COLOURS, _MARKERS, strict=True):
        reads = source["filters"][name]["reads"]["by_keys"]
        axes.plot(keys, reads, color=colour, marker=marker, markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_title(source["source"], fontsize=10)
    axes.set_xlabel("keys n")
    axes.set_ylabel("keys read by a query")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw what pruning leaves to be read.")
    parser.add_argument("results", type=Path, help="result of the study")
    parser.add_argument("picture", type=Path, help="SVG to write")
    arguments = parser.parse_args()
    draw_pruning(json.loads(arguments.results.read_text()), arguments.picture)
