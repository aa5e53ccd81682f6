"""What an inspection looks at."""

from dataclasses import dataclass

from gibbsian._errors import ArgumentError
from gibbsian.normalizers.schedules import Schedule, schedule_from_config, schedule_to_config

_PLAIN: dict[str, dict[str, object]] = {
    "constant": {"name": "constant", "zeta": 0.5},
    "linear": {"name": "linear"},
    "smooth_step": {"name": "smooth_step"},
    "cosine": {"name": "cosine"},
    "response": {"name": "response", "budget": 0.1},
}
"""The schedules without options."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectConfig:
    """Settings of an inspection.

    Raises:
        ArgumentError: a setting is out of its range, or there is nothing to read.
    """

    model: str
    """Hub name, folder as transformers saves it, or .gguf file."""
    texts: tuple[str, ...] = ()
    """UTF-8 files, each read on its own."""
    images: tuple[str, ...] = ()
    """Image files, for vision models; either these or texts."""
    tokens: int | None = None
    """Read the first so many tokens of each text; None = all."""
    schedule: str = "smooth_step"
    """Of the sparsity that is tried on every row: NAME or NAME:OPTION=VALUE,..."""
    gap_positions: int = 1024
    """Spectral gaps are those of the first so many positions; 0 = none are computed."""
    agreement_rows: int = 128
    """Heads are compared on so many query rows of a layer, spread evenly."""
    entropy_threshold: float | None = None
    """Next-token entropies above are high, nats; None = the median."""
    varentropy_threshold: float | None = None
    """Likewise for varentropies, nats squared."""

    def __post_init__(self) -> None:
        """Check what can be checked without reading anything."""
        if bool(self.texts) == bool(self.images):
            both = "both" if self.texts else "neither"
            raise ArgumentError(
                f"`--text` or `--images` must be given, got {both}. Text is for language models, "
                "images are for vision models."
            )
        if self.tokens is not None and self.tokens < 2:
            raise ArgumentError(
                f"`--tokens` must be >= 2, got {self.tokens}. A row needs keys to choose from."
            )
        if self.gap_positions < 0 or self.gap_positions == 1:
            raise ArgumentError(
                f"`--gap-positions` must be >= 2, or 0 for no spectral gaps, got "
                f"{self.gap_positions}."
            )
        if self.agreement_rows < 1:
            raise ArgumentError(f"`--agreement-rows` must be >= 1, got {self.agreement_rows}.")


def make_schedule(spec: str) -> Schedule:
    """The schedule that `NAME` or `NAME:OPTION=VALUE,...` stands for.

    Raises:
        ArgumentError: the name or an option is unknown, or a value is out of its range.
    """
    name, _, rest = spec.partition(":")
    if name not in _PLAIN:
        raise ArgumentError(f"`--schedule` must be one of {', '.join(_PLAIN)}, got {name!r}.")
    known: dict[str, object] = schedule_to_config(schedule_from_config(_PLAIN[name]))
    # `bounds` are several numbers, which have no spelling here
    choices = [option for option in known if option not in ("name", "bounds")]
    options = dict(_PLAIN[name])
    for item in rest.split(",") if rest else ():
        key, equals, value = item.partition("=")
        if not equals:
            raise ArgumentError(
                f"`--schedule` must be NAME or NAME:OPTION=VALUE,..., got {spec!r}, e.g. "
                "smooth_step:zeta_max=0.5."
            )
        if key not in choices:
            raise ArgumentError(
                f"`--schedule` {name} has no option {key!r}; it has {', '.join(choices)}."
            )
        try:
            options[key] = value if isinstance(known[key], str) else float(value)
        except ValueError:
            raise ArgumentError(
                f"`--schedule` {name} needs a number for {key!r}, got {value!r}. Its options are "
                f"{', '.join(choices)}."
            ) from None
    try:
        return schedule_from_config(options)
    except ArgumentError as error:
        raise ArgumentError(f"`--schedule` cannot be {spec!r}: {error}") from None
