"""Policies as people write them, on a command line or in a request."""

import json
from dataclasses import fields
from typing import Any, get_args

from gibbsian._errors import ArgumentError
from gibbsian.sampling.policies.base import Policy
from gibbsian.sampling.policies.config import POLICIES, policy_from_config
from gibbsian.sampling.thresholds import Thresholds

_LEVELS = tuple(f.name for f in fields(Thresholds))


def policy_from_text(
    text: str, *, thresholds: Thresholds | None = None, insert_token: int | None = None
) -> Policy:
    """The policy that `NAME`, `NAME:OPTION=VALUE,...` or the JSON of `Policy.to_config` stands for.

    The options of `aes` are those of its schedule, with `schedule=NAME` for another than
    smooth_step; those of `quadrant` may be thresholds too, in nats.

    Args:
        text: as the user gave it, e.g. `fixed:temperature=0.7,min_p=0.05`.
        thresholds: of the policy `quadrant`, where the text gives none; None = its defaults.
        insert_token: likewise, the token it inserts; None = it inserts none.

    Raises:
        ArgumentError: the name or an option is unknown, or a value is out of its range.
    """
    return policy_from_config(config_from_text(text, thresholds, insert_token))


def config_from_text(
    text: str, thresholds: Thresholds | None = None, insert_token: int | None = None
) -> dict[str, Any]:
    """What `policy_from_text` makes the policy of; values may still be out of range.

    Raises:
        ArgumentError: the name is unknown, or a value is not of its option's type.
    """
    if text.lstrip().startswith("{"):
        try:
            config: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise ArgumentError(
                f"`policy` must be JSON if it begins with a brace: {error}."
            ) from None
        return config
    name, _, rest = text.partition(":")
    if name not in POLICIES:
        raise ArgumentError(f"`policy` must be one of {', '.join(sorted(POLICIES))}, got {name!r}.")
    given: dict[str, str] = {}
    for item in rest.split(",") if rest else ():
        key, equals, value = item.partition("=")
        if not equals:
            raise ArgumentError(
                f"`policy` must be NAME or NAME:OPTION=VALUE,..., got {text!r}, e.g. "
                "fixed:temperature=0.7,min_p=0.05."
            )
        given[key] = value
    if name == "aes":
        schedule = {"name": given.pop("schedule", "smooth_step")}
        described: dict[str, Any] = {key: _number(key, value) for key, value in given.items()}
        return {"name": name, "schedule": schedule | described}
    kinds = {f.name: f.type for f in fields(POLICIES[name])}
    options: dict[str, Any] = {}
    if name == "quadrant":
        levels = {key: _number(key, given.pop(key)) for key in _LEVELS if key in given}
        options["thresholds"] = (thresholds or Thresholds()).to_config() | levels
        options["insert_token"] = insert_token
    options |= {key: _converted(key, value, kinds.get(key, str)) for key, value in given.items()}
    return {"name": name, **options}


def _converted(key: str, text: str, kind: Any) -> Any:
    kinds = {kind, *get_args(kind)}
    if bool in kinds:
        if text not in {"true", "false"}:
            raise ArgumentError(f"`{key}` must be true or false, got {text!r}.")
        return text == "true"
    if float in kinds:
        return _number(key, text)
    if int in kinds:
        try:
            return int(text)
        except ValueError:
            raise ArgumentError(f"`{key}` must be a whole number, got {text!r}.") from None
    return text


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"`{key}` must be a number, got {text!r}.") from None
