"""Schedules as JSON-able dictionaries, `{"name": ..., options}`, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeAlias

from gibbsian._errors import ArgumentError
from gibbsian.normalizers.schedules.base import Schedule
from gibbsian.normalizers.schedules.bounds import VarentropyBounds
from gibbsian.normalizers.schedules.constant import Constant
from gibbsian.normalizers.schedules.gate import Gated
from gibbsian.normalizers.schedules.learnable_constant import LearnableConstant
from gibbsian.normalizers.schedules.learnable_ramp import LearnableRamp
from gibbsian.normalizers.schedules.ramps import Cosine, Linear, SmoothStep
from gibbsian.normalizers.schedules.response import Response

NamedSchedule: TypeAlias = (
    Constant | Linear | SmoothStep | Cosine | Response | Gated | LearnableConstant | LearnableRamp
)
"""The schedules that a configuration can name."""

_CLASSES: dict[str, type[NamedSchedule]] = {
    cls.name: cls
    for cls in (
        Constant,
        Linear,
        SmoothStep,
        Cosine,
        Response,
        Gated,
        LearnableConstant,
        LearnableRamp,
    )
}


def schedule_to_config(schedule: Schedule) -> dict[str, Any]:
    """JSON-able description of a schedule: its name and its options.

    Parameters of a learnable schedule are not in it: they travel in the `state_dict`, and the
    description holds their number of heads and their initial values.

    Raises:
        ArgumentError: a schedule that is not the package's own (a description could not name it).
    """
    if isinstance(schedule, Gated):
        return {
            "name": schedule.name,
            "schedule": schedule_to_config(schedule.schedule),
            "constant": schedule_to_config(schedule.constant),
            "tolerance": schedule.tolerance,
            "mode": schedule.mode,
        }
    if isinstance(schedule, LearnableConstant | LearnableRamp):
        return {"name": schedule.name, **schedule.options()}
    if isinstance(schedule, Constant | Linear | SmoothStep | Cosine | Response):
        options = asdict(schedule)
        return {"name": schedule.name, **{key: _encoded(options[key]) for key in options}}
    raise ArgumentError(
        f"`schedule` must be one of {_known()} to be described, got {schedule!r}. "
        "Build a schedule of your own in code, and load its parameters with `load_state_dict`."
    )


def schedule_from_config(config: Mapping[str, Any]) -> NamedSchedule:
    """Inverse of `schedule_to_config`; options left out take their defaults.

    Raises:
        ArgumentError: an unknown name, an unknown or missing option, a value out of range.
    """
    options = dict(config)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in _CLASSES:
        raise ArgumentError(f"`name` of a schedule must be one of {_known()}, got {name!r}.")
    decoded = {key: _decoded(key, value) for key, value in options.items()}
    try:
        return _CLASSES[name](**decoded)
    except TypeError as error:
        raise ArgumentError(f"`config` of schedule {name!r} does not fit: {error}.") from None


def _encoded(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _decoded(key: str, value: Any) -> Any:
    if key == "bounds" and isinstance(value, Mapping):
        try:
            return VarentropyBounds(**value)
        except TypeError as error:
            raise ArgumentError(f"`bounds` of a schedule does not fit: {error}.") from None
    if isinstance(value, Mapping):
        return schedule_from_config(value)
    return tuple(value) if isinstance(value, list) else value


def _known() -> str:
    return ", ".join(repr(name) for name in sorted(_CLASSES))
