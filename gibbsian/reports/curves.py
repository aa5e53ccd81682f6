"""The curves of a comparison, as Plotly figures in plain JSON."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Figure = dict[str, Any]

# Okabe and Ito's palette: told apart with any colour vision; black and yellow are left out because
# one of them vanishes on a dark or on a light page.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
PANELS_IN_A_ROW = 4
DASHES = ("solid", "dash", "dot", "dashdot")

_PROBED = (
    ("entropy", "Entropy S by layer, nats", "Mean Shannon entropy of the attention rows."),
    ("varentropy", "Varentropy V by layer, nats²", "Mean varentropy of the attention rows."),
    ("zeta", "Sparsity ζ by layer", "0 is softmax, 1 is sparsemax."),
    ("support_fraction", "Support by layer", "Part of the visible keys with a weight above 0."),
)


def comparison_figures(results: Mapping[str, Any]) -> list[Figure]:
    """Loss of training and validation, then the attention statistics by layer.

    Each figure is a dict of `title`, `caption`, and Plotly's `data` and `layout`.
    """
    runs: Sequence[Mapping[str, Any]] = results["runs"]
    attentions = dict.fromkeys(run["attention"] for run in runs)
    index = {name: i for i, name in enumerate(attentions)}
    return [
        _losses(runs, index, "Training loss", "nats a token", "curve"),
        _losses(runs, index, "Validation loss on the probe batch", "bits a byte", "probes"),
        *(
            _by_layer(runs, index, name, title, caption)
            for name, title, caption in _PROBED
            if any(probe["layers"] for run in runs for probe in run["probes"])
        ),
    ]


def _line(attention: str, number: int, *, width: float = 2) -> dict[str, Any]:
    return {
        # Plotly reads a little markup in names
        "name": escape(attention),
        "legendgroup": escape(attention),
        "mode": "lines",
        "line": {
            "color": COLOURS[number % len(COLOURS)],
            "dash": DASHES[number // len(COLOURS) % len(DASHES)],
            "width": width,
        },
    }


def _losses(
    runs: Sequence[Mapping[str, Any]], index: Mapping[str, int], title: str, unit: str, source: str
) -> Figure:
    data = []
    shown: set[str] = set()
    for run in runs:
        name = run["attention"]
        if source == "curve":
            x, y = run["curve"]["step"], run["curve"]["loss"]
        else:
            x = [probe["step"] for probe in run["probes"]]
            y = [probe["bits_per_byte"] for probe in run["probes"]]
        data.append(
            _line(name, index[name])
            | {"x": x, "y": y, "showlegend": name not in shown, "text": f"seed {run['seed']}"}
        )
        shown.add(name)
    caption = "One line a run; the seeds of an attention share its colour."
    layout = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"title": {"text": unit}}}
    return {"title": title, "caption": caption, "data": data, "layout": layout}


def _by_layer(
    runs: Sequence[Mapping[str, Any]],
    index: Mapping[str, int],
    name: str,
    title: str,
    caption: str,
) -> Figure:
    layers = max(len(probe["layers"]) for run in runs for probe in run["probes"])
    layout: dict[str, Any] = {"annotations": []}
    data = []
    shown: set[str] = set()
    for layer in range(layers):
        axis = str(layer + 1) if layer else ""
        _add_panel(layout, layer, layers, title.partition(" by")[0])
        for run in runs:
            attention = run["attention"]
            probes = [probe for probe in run["probes"] if probe["layers"]]
            data.append(
                _line(attention, index[attention])
                | {
                    "x": [probe["step"] for probe in probes],
                    "y": [probe["layers"][layer][name] for probe in probes],
                    "xaxis": f"x{axis}",
                    "yaxis": f"y{axis}",
                    "showlegend": attention not in shown,
                    "text": f"seed {run['seed']}",
                }
            )
            shown.add(attention)
    return {"title": title, "caption": caption, "data": data, "layout": layout}


def _add_panel(layout: dict[str, Any], layer: int, layers: int, unit: str) -> None:
    """Axes and heading of a layer's panel, on a grid of at most `PANELS_IN_A_ROW` columns."""
    columns = min(layers, PANELS_IN_A_ROW)
    rows = -(-layers // columns)
    row, column = divmod(layer, columns)
    width, height = 1 / columns, 1 / rows
    x = [column * width, (column + 0.92) * width]
    y = [1 - (row + 0.78) * height, 1 - row * height] if rows > 1 else [0, 1]
    axis = str(layer + 1) if layer else ""
    layout["height"] = 130 + 290 * rows
    layout[f"xaxis{axis}"] = {"domain": x, "anchor": f"y{axis}", "title": {"text": "step"}}
    layout[f"yaxis{axis}"] = {
        "domain": y,
        "anchor": f"x{axis}",
        "showticklabels": column == 0,
        # one scale for all layers
        **({"matches": "y"} if layer else {}),
        **({} if column else {"title": {"text": unit}}),
    }
    heading = {"text": f"layer {layer + 1}", "x": sum(x) / 2, "y": y[1], "yanchor": "bottom"}
    layout["annotations"].append(heading | {"xref": "paper", "yref": "paper", "showarrow": False})
