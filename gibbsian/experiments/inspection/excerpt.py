"""The part of an inspection that is small enough to keep: maps, and a few numbers of the text.

python -m gibbsian.experiments.inspection.excerpt FOLDER FILE NAME
"""

import math
import statistics
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gibbsian.experiments.files import write_json
from gibbsian.experiments.inspection.folder import load_inspection
from gibbsian.experiments.inspection.summary import rounded

_KEPT = (
    "schema",
    "kind",
    "created",
    "versions",
    "machine",
    "schedule",
    "inputs",
    "layers",
    "heads",
    "gap_positions",
    "agreement_rows",
    "thresholds",
    "seconds",
    "peak_memory_bytes",
)


def excerpt(inspection: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Maps to three digits, and summaries of tokens and of the supports' prediction.

    Args:
        inspection: content of an inspection.json.
        name: of the model, in place of the folder it was read from.
    """
    command = inspection["command"].replace(inspection["model"], name)
    maps = {
        key: [[None if x is None else float(f"{x:.3g}") for x in heads] for heads in layers]
        for key, layers in inspection["maps"].items()
    }
    return {
        "model": name,
        "command": command,
        **{key: inspection[key] for key in _KEPT},
        "tokens": _tokens(inspection),
        "support": _support(inspection),
        "maps": maps,
    }


def _tokens(inspection: Mapping[str, Any]) -> dict[str, Any] | None:
    tokens = [t for t in inspection["tokens"] or () if t["surprisal"] is not None]
    if not tokens:
        return None
    quadrants = Counter(token["quadrant"] for token in tokens)
    return {
        "count": len(tokens),
        **{
            f"mean_{key}": rounded(statistics.fmean(token[key] for token in tokens))
            for key in ("surprisal", "entropy", "varentropy")
        },
        "quadrants": {key: quadrants[key] for key in sorted(quadrants)},
        "mean_surprisal_of_quadrant": {
            key: rounded(statistics.fmean(t["surprisal"] for t in tokens if t["quadrant"] == key))
            for key in sorted(quadrants)
        },
    }


def _support(inspection: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How well linear response predicts the effective support, by ranges of zeta."""
    points = inspection["support_points"]
    rows = [
        (zeta, abs(math.log(predicted / measured)))
        for zeta, measured, predicted in zip(
            points["zeta"], points["measured"], points["predicted"], strict=True
        )
        if measured and predicted
    ]
    ranges = ((0.0, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.5), (0.5, 1.0))
    found = []
    for low, high in ranges:
        misses = [miss for zeta, miss in rows if low < zeta <= high]
        if misses:
            found.append(
                {
                    "zeta_above": low,
                    "zeta_to": high,
                    "rows": len(misses),
                    "median_factor": rounded(math.exp(statistics.median(misses))),
                    "within_factor_2": rounded(
                        sum(miss <= math.log(2) for miss in misses) / len(misses)
                    ),
                }
            )
    return found


def main(arguments: list[str]) -> None:
    """Write the excerpt of the inspection in a folder to a file."""
    folder, file, name = arguments
    write_json(Path(file), excerpt(load_inspection(Path(folder)), name))


if __name__ == "__main__":
    main(sys.argv[1:])
