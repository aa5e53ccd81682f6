"""What is to be generated."""

from dataclasses import dataclass

from gibbsian._errors import ArgumentError
from gibbsian.sampling.policies import policy_from_text


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
        name = policy_from_text(self.policy).name
        if self.insert is not None and name != "quadrant":
            raise ArgumentError(
                f"`--insert` is for `--policy quadrant`, got {name!r}. No other policy inserts."
            )
