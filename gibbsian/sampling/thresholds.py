"""Where low ends and high begins: levels of entropy and varentropy, in nats."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from gibbsian._errors import ArgumentError

UNIT = "nats"
"""Entropies in nats, varentropies in nats squared."""

_LARGEST = {"entropy": 20.0, "varentropy": 100.0}
"""No vocabulary has 5e8 tokens: a larger threshold is in another unit, or another quantity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    r"""Levels between low and high; a value between the two of a pair is neither.

    The defaults are those of Entropix, which are in bits, converted. Vocabularies and models
    differ: use `calibrate`.

    Raises:
        ArgumentError: not 0 <= low <= high, or a value that cannot be in nats.
    """

    entropy_low: float = 0.1 * math.log(2)
    """Entropies below are low, nats."""
    entropy_high: float = 5.0 * math.log(2)
    """Entropies at and above are high, nats."""
    varentropy_low: float = 0.1 * math.log(2) ** 2
    """Varentropies below are low, nats squared."""
    varentropy_high: float = 5.0 * math.log(2) ** 2
    """Varentropies at and above are high, nats squared."""

    def __post_init__(self) -> None:
        """Check order and range."""
        for name, largest in _LARGEST.items():
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if not 0.0 <= low <= high:
                raise ArgumentError(
                    f"`{name}_low` and `{name}_high` must satisfy 0 <= low <= high, got {low} and "
                    f"{high}. One that is not given has its default."
                )
            if not high <= largest:
                raise ArgumentError(
                    f"`{name}_high` must be at most {largest:g} ({UNIT}), got {high}. "
                    "From bits: entropies times 0.693, varentropies times 0.480."
                )

    def to_config(self) -> dict[str, Any]:
        """JSON-able, with the unit."""
        return {"unit": UNIT, **asdict(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Thresholds":
        """Inverse of `to_config`.

        Raises:
            ArgumentError: a unit other than nats, an unknown field, values that do not fit.
        """
        values = dict(config)
        unit = values.pop("unit", None)
        if unit != UNIT:
            raise ArgumentError(
                f"`unit` of thresholds must be {UNIT!r}, got {unit!r}. "
                "From bits: entropies times 0.693, varentropies times 0.480."
            )
        names = {f.name for f in fields(cls)}
        if set(values) != names or not all(isinstance(v, int | float) for v in values.values()):
            raise ArgumentError(
                f"`thresholds` must have the numbers {', '.join(sorted(names))}, "
                f"got {', '.join(sorted(values)) or 'none'}. `calibrate` writes them."
            )
        return cls(**values)
