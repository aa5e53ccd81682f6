"""What is to be generated, and the policy that a word on the command line stands for."""

from dataclasses import dataclass, fields
from typing import Any, get_args

from gibbsian._errors import ArgumentError
from gibbsian.sampling import Thresholds
from gibbsian.sampling.policies import POLICIES, Policy, policy_from_config

_LEVELS = tuple(f.name for f in fields(Thresholds))


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig:
    """Settings of one generation.

    Raises:
        ArgumentError: a setting is out of its range, or there is nothing to do.
    """

    model: str
    """Hub name, folder as transformers saves it, or .gguf file."""
    prompt: str | None = None
    """What the text begins with, or what the user says in a chat; None = only calibrate."""
    policy: str = "quadrant"
    """NAME or NAME:OPTION=VALUE,..."""
    seed: int | None = None
    """Of the draws; None = a fresh one, which is told."""
    max_tokens: int = 256
    """Generate at most so many."""
    chat: bool | None = None
    """Whether the prompt goes through the model's chat template; None = if it has one."""
    insert: str | None = None
    """Text of the one token that the policy `quadrant` inserts to think; None = it inserts none."""
    attention: bool = False
    """Whether the policy is told about the model's attention."""
    thresholds: str | None = None
    """Calibration file; None = the one beside the model, if there is one."""
    calibrate: str | None = None
    """UTF-8 text on which thresholds are calibrated first, and kept in that file."""

    def __post_init__(self) -> None:
        """Check what can be checked without reading anything."""
        if self.prompt is None and self.calibrate is None:
            raise ArgumentError("`--prompt` must be given. What is the model to go on from?")
        if self.prompt is not None and not self.prompt.strip():
            raise ArgumentError(f"`--prompt` must have some text, got {self.prompt!r}.")
        if self.max_tokens < 1:
            raise ArgumentError(f"`--max-tokens` must be >= 1, got {self.max_tokens}.")
        name = make_policy(self.policy, Thresholds(), None).name
        if self.insert is not None and name != "quadrant":
            raise ArgumentError(
                f"`--insert` is for `--policy quadrant`, got {name!r}. No other policy inserts."
            )


def make_policy(spec: str, thresholds: Thresholds, insert_token: int | None) -> Policy:
    """The policy that `NAME` or `NAME:OPTION=VALUE,...` stands for.

    The options of `aes` are those of its schedule, with `schedule=NAME` for another than
    smooth_step; those of `quadrant` may be thresholds too, in nats.

    Args:
        spec: as the user gave it.
        thresholds: of the policy `quadrant`, where it gives none itself.
        insert_token: likewise.

    Raises:
        ArgumentError: the name or an option is unknown, or a value is out of its range.
    """
    name, _, rest = spec.partition(":")
    if name not in POLICIES:
        raise ArgumentError(
            f"`--policy` must be one of {', '.join(sorted(POLICIES))}, got {name!r}."
        )
    given: dict[str, str] = {}
    for item in rest.split(",") if rest else ():
        key, equals, value = item.partition("=")
        if not equals:
            raise ArgumentError(
                f"`--policy` must be NAME or NAME:OPTION=VALUE,..., got {spec!r}, e.g. "
                "fixed:temperature=0.7,min_p=0.05."
            )
        given[key] = value
    if name == "aes":
        schedule = {"name": given.pop("schedule", "smooth_step")}
        described: dict[str, Any] = {key: _number(key, value) for key, value in given.items()}
        return policy_from_config({"name": name, "schedule": schedule | described})
    kinds = {f.name: f.type for f in fields(POLICIES[name])}
    options: dict[str, Any] = {}
    if name == "quadrant":
        levels = {key: _number(key, given.pop(key)) for key in _LEVELS if key in given}
        options["thresholds"] = thresholds.to_config() | levels
        options["insert_token"] = insert_token
    options |= {key: _converted(key, value, kinds.get(key, str)) for key, value in given.items()}
    return policy_from_config({"name": name, **options})


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
