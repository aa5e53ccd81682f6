"""Thresholds for one model: quantiles of entropy and varentropy on a sample of text."""

import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError, DataError
from gibbsian._files import write_atomic
from gibbsian.sampling.thresholds import Thresholds
from gibbsian.statistics import GibbsStatistics

_SCHEMA = 1
_FEWEST = 100
"""Positions below which a quantile means nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Thresholds, and where they come from."""

    thresholds: Thresholds
    """In nats."""
    model: str
    """Which model."""
    text: str
    """Which text it read."""
    positions: int
    """How many next-token distributions were looked at."""
    low_quantile: float
    """Share of positions below the low thresholds."""
    high_quantile: float
    """Share of positions below the high thresholds."""
    created: str
    """Date and time, ISO 8601, UTC."""

    def save(self, path: str | Path) -> Path:
        """Write JSON: aside first, then renamed, so that no reader meets half a file."""
        target = Path(path)
        content = {"schema": _SCHEMA, **asdict(self), "thresholds": self.thresholds.to_config()}
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, json.dumps(content, indent=2) + "\n")
        return target

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Inverse of `save`.

        Raises:
            DataError: a file that is missing, no JSON, or not of this kind.
            ArgumentError: thresholds in another unit, or in the wrong order.
        """
        try:
            content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            schema = content.pop("schema")
            thresholds = Thresholds.from_config(content.pop("thresholds"))
            if schema == _SCHEMA:
                return cls(thresholds=thresholds, **content)
        except OSError as error:
            raise DataError(
                f"`path` must be a calibration file, got {path}: {error.strerror}. "
                "`calibrate(...).save(path)` writes one."
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, ArgumentError):
                raise
            raise DataError(
                f"`path` must be a calibration file, got {path}, which is none "
                f"({type(error).__name__}). `calibrate(...).save(path)` writes one."
            ) from None
        raise DataError(
            f"`path` must be a calibration file of schema {_SCHEMA}, got schema {schema}. "
            "Calibrate again."
        )


def calibrate(
    entropy: GibbsStatistics | Float[Tensor, "..."],
    varentropy: Float[Tensor, "..."] | None = None,
    *,
    model: str,
    text: str,
    low: float = 0.25,
    high: float = 0.75,
) -> Calibration:
    """Thresholds at quantiles of the entropies and varentropies that a model has on a text.

    Args:
        entropy: statistics of the next-token distributions at every position, or their entropies
            in nats.
        varentropy: their varentropies, nats squared; not given with statistics.
        model: name, for the record.
        text: description, for the record.
        low: share of positions below the low thresholds.
        high: share of positions below the high thresholds.

    Raises:
        ArgumentError: not 0 < low <= high < 1, or entropies and varentropies that do not match.
        DataError: fewer than 100 positions, or one that is not finite.
    """
    if not 0.0 < low <= high < 1.0:
        raise ArgumentError(
            f"`low` and `high` must satisfy 0 < low <= high < 1, got {low} and {high}. "
            "They are quantiles, not nats."
        )
    if isinstance(entropy, GibbsStatistics):
        statistics = entropy
        entropy, varentropy = statistics.entropy, statistics.varentropy
    if varentropy is None or varentropy.shape != entropy.shape:
        found = None if varentropy is None else tuple(varentropy.shape)
        raise ArgumentError(
            f"`varentropy` must have one number for each entropy {tuple(entropy.shape)}, got "
            f"{found}. Give statistics, or both."
        )
    samples = torch.stack([entropy, varentropy]).detach().double().flatten(1).cpu()
    if samples.shape[1] < _FEWEST or not bool(samples.isfinite().all()):
        bad = int((~samples.isfinite()).any(dim=0).sum())
        raise DataError(
            f"`entropy` must have at least {_FEWEST} finite positions, got {samples.shape[1]} of "
            f"which {bad} are not finite. Read more text."
        )
    # torch.quantile takes no more than 2^24 numbers
    ordered = samples.sort(dim=1).values
    values = [_quantile(row, q) for row in ordered for q in (low, high)]
    return Calibration(
        thresholds=Thresholds(
            entropy_low=values[0],
            entropy_high=values[1],
            varentropy_low=values[2],
            varentropy_high=values[3],
        ),
        model=model,
        text=text,
        positions=samples.shape[1],
        low_quantile=low,
        high_quantile=high,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _quantile(ordered: Tensor, q: float) -> float:
    """Linear between the two nearest of sorted numbers."""
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return float(torch.lerp(ordered[below], ordered[above], position - below))
