"""Results of a comparison as plain JSON: one entry a run, one row an attention."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

CURVE_POINTS = 400
"""Points kept of each loss curve."""

_AVERAGED = (
    "parameters",
    "validation_bits_per_byte",
    "entropy",
    "varentropy",
    "zeta",
    "support_fraction",
    "score_products",
    "value_products",
    "step_seconds",
    "peak_memory_bytes",
)


def summarise_runs(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row an attention, in the order of the runs: means over seeds.

    `validation_bits_per_byte_spread` is the sample standard deviation, None for one seed.
    """
    by_attention: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_attention.setdefault(run["attention"], []).append(run)
    rows = []
    for attention, group in by_attention.items():
        row: dict[str, Any] = {"attention": attention, "seeds": [run["seed"] for run in group]}
        for name in _AVERAGED:
            values = [run[name] for run in group if run[name] is not None]
            row[name] = statistics.fmean(values) if values else None
        losses = [run["validation_bits_per_byte"] for run in group]
        spread = statistics.stdev(losses) if len(losses) > 1 else None
        row["validation_bits_per_byte_spread"] = spread
        rows.append(row)
    return rows


def thin(records: Sequence[dict[str, Any]], name: str) -> dict[str, list[float]]:
    """A curve of at most `CURVE_POINTS` points, each the mean over its group of steps."""
    size = -(-len(records) // CURVE_POINTS) or 1
    groups = [records[i : i + size] for i in range(0, len(records), size)]
    return {
        "step": [group[-1]["step"] for group in groups],
        name: [
            # a diverged run has null where the loss was not a number
            statistics.fmean(float("nan") if r[name] is None else r[name] for r in group)
            for group in groups
        ],
    }
