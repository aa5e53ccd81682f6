"""Schedules as configurations."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gibbsian.normalizers.schedules import Constant, Cosine, Linear, SmoothStep, VarentropyBounds


def schedule_to_config(schedule: Any) -> dict[str, Any]:
    """Name and options."""
    return {"name": schedule.name, **asdict(schedule)}


def schedule_from_config(config: Mapping[str, Any]) -> Any:
    """Inverse of `schedule_to_config`."""
    options = dict(config)
    kind = {c.name: c for c in (Constant, Cosine, Linear, SmoothStep)}[options.pop("name")]
    if options.get("bounds") is not None:
        options["bounds"] = VarentropyBounds(**options["bounds"])
    return kind(**options)
