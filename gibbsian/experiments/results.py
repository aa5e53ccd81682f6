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

    `validation_bits_per_byte_spread` is the sample standard deviation, None for one seed. A number
    that a run lacks, because it diverged, is None in the mean too.
    """
    by_attention: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        by_attention.setdefault(run["attention"], []).append(run)
    rows = []
    for attention, group in by_attention.items():
        row: dict[str, Any] = {"attention": attention, "seeds": [run["seed"] for run in group]}
        for name in _AVERAGED:
            row[name] = _mean([run[name] for run in group])
        losses = [run["validation_bits_per_byte"] for run in group]
        known = len(losses) > 1 and None not in losses
        row["validation_bits_per_byte_spread"] = statistics.stdev(losses) if known else None
        rows.append(row)
    return rows


def _mean(values: Sequence[float | int | None]) -> float | None:
    present = [float(value) for value in values if value is not None]
    return statistics.fmean(present) if len(present) == len(values) else None


def thin(records: Sequence[dict[str, Any]], name: str) -> dict[str, list[Any]]:
    """A curve of at most `CURVE_POINTS` points, each the mean over its group of steps.

    The keys are `step` (the last of the group) and `name`; a mean over a null is null.
    """
    size = -(-len(records) // CURVE_POINTS) or 1
    groups = [records[i : i + size] for i in range(0, len(records), size)]
    return {
        "step": [group[-1]["step"] for group in groups],
        name: [_mean([record[name] for record in group]) for group in groups],
    }
