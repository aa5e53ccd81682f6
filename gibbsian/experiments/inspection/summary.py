"""What inspection.json says of the layers and heads, gathered row by row."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gibbsian.experiments.inspection.measure import HEAD_NAMES, ROW_NAMES, LayerMeasures

MAX_POINTS = 4000
"""Rows whose predicted and measured supports are listed."""
_BINS = 32
_HISTOGRAMS = (
    "entropy",
    "normalized_entropy",
    "varentropy",
    "zeta",
    "sink_mass",
    "support_size",
)

Array = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class _Head:
    """Sums over the rows of one head."""

    rows: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ROW_NAMES, 0.0))
    inputs: dict[str, list[float]] = field(default_factory=lambda: {n: [] for n in HEAD_NAMES})
    counts: dict[str, NDArray[np.int64]] = field(
        default_factory=lambda: {n: np.zeros(_BINS, dtype=np.int64) for n in _HISTOGRAMS}
    )


class Summary:
    """Means, distributions and a sample of rows of every layer and head.

    Args:
        layers: number of layers.
        inputs: number of inputs.
        keys: largest number of keys a row may see: the end of the histograms.
    """

    def __init__(self, *, layers: int, inputs: int, keys: int) -> None:
        self._layers = layers
        self._inputs = inputs
        self._edges = _edges(keys)
        self._heads: dict[tuple[int, int], _Head] = {}
        self._points: list[tuple[int, int, float, float, float]] = []

    def add(self, layer: int, measures: LayerMeasures) -> None:
        """Take in a layer of one input. Rows that see no key are left out."""
        visible = measures.visible_keys.cpu().numpy()
        rows = {name: n.double().cpu().numpy() for name, n in measures.rows.items()}
        for head in range(len(visible)):
            kept = visible[head] > 0
            of_head = {name: numbers[head][kept] for name, numbers in rows.items()}
            state = self._heads.setdefault((layer, head), _Head())
            state.rows += int(kept.sum())
            for name, numbers in of_head.items():
                state.sums[name] += float(numbers.sum())
            for name in HEAD_NAMES:
                state.inputs[name].append(float(measures.heads[name][head]))
            for name in _HISTOGRAMS:
                bins = np.searchsorted(self._edges[name], of_head[name], side="right") - 1
                state.counts[name] += np.bincount(bins.clip(0, _BINS - 1), minlength=_BINS)
            self._sample(layer, head, visible[head][kept], of_head, heads=len(visible))

    def _sample(
        self, layer: int, head: int, visible: Any, rows: Mapping[str, Array], *, heads: int
    ) -> None:
        # a row of one key has nothing to lose
        several = np.flatnonzero(visible > 1)
        quota = max(1, MAX_POINTS // (self._layers * heads * self._inputs))
        if len(several) == 0:
            return
        last = len(several) - 1
        places = np.linspace(0, last, quota) if quota > 1 else np.array([last / 2])
        chosen = several[places.round().astype(int)]
        for row in np.unique(chosen):
            zeta, measured, predicted = (
                float(rows[name][row])
                for name in ("zeta", "sparse_effective_support", "predicted_support")
            )
            self._points.append((layer, head, zeta, measured, predicted))

    @property
    def num_heads(self) -> int:
        """The most heads that a layer has."""
        return 1 + max((head for _, head in self._heads), default=-1)

    def maps(self) -> dict[str, list[list[float | None]]]:
        """Mean over the rows (numbers a head: over the inputs) by name, layers x heads."""
        return {
            name: [
                [rounded(self._mean(name, layer, head)) for head in range(self.num_heads)]
                for layer in range(self._layers)
            ]
            for name in (*ROW_NAMES, *HEAD_NAMES)
        }

    def histograms(self) -> dict[str, dict[str, Any]]:
        """Numbers of rows, layers x heads x bins; the last bin holds its upper edge too."""
        empty = [0] * _BINS
        return {
            name: {
                "edges": [rounded(edge) for edge in self._edges[name]],
                "counts": [
                    [
                        self._heads[layer, head].counts[name].tolist()
                        if (layer, head) in self._heads
                        else empty
                        for head in range(self.num_heads)
                    ]
                    for layer in range(self._layers)
                ],
            }
            for name in _HISTOGRAMS
        }

    def support_points(self) -> dict[str, list[Any]]:
        """Effective support under the schedule, measured and predicted, of rows spread evenly."""
        points = self._points
        if len(points) > MAX_POINTS:
            kept = np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int)
            points = [points[i] for i in kept]
        names = ("layer", "head", "zeta", "measured", "predicted")
        columns = list(zip(*points, strict=True)) or [()] * len(names)
        return {
            name: [value if isinstance(value, int) else rounded(value) for value in column]
            for name, column in zip(names, columns, strict=True)
        }

    def _mean(self, name: str, layer: int, head: int) -> float:
        state = self._heads.get((layer, head))
        if state is None:
            return math.nan
        if name in state.sums:
            return state.sums[name] / state.rows if state.rows else math.nan
        finite = [number for number in state.inputs[name] if math.isfinite(number)]
        return sum(finite) / len(finite) if finite else math.nan


def rounded(number: float) -> float | None:
    """Six digits, as many as float32 is good for; None for what JSON lacks."""
    return float(f"{number:.6g}") if math.isfinite(number) else None


def _edges(keys: int) -> dict[str, Array]:
    """Edges of the histograms, fixed beforehand by what n keys allow."""
    log_keys = math.log(max(keys, 2))
    unit = np.linspace(0.0, 1.0, _BINS + 1)
    # V is at most about (log n)^2/4 + 1, and mostly far below: bins that widen
    widest = 1.0 + log_keys**2 / 4
    return {
        "entropy": unit * log_keys,
        "normalized_entropy": unit,
        "varentropy": unit**2 * widest,
        "zeta": unit,
        "sink_mass": unit,
        "support_size": np.geomspace(1.0, max(keys, 2), _BINS + 1),
    }
