"""Settings of a comparison: frozen, keyword-only, checked when made, and storable as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gibbsian._errors import ArgumentError

MODELS = ("decoder", "encoder")
DEVICES = ("auto", "cpu", "cuda")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ArgumentError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}.")


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """One comparison: every attention is trained once for each seed, all else being equal."""

    attentions: tuple[str, ...] = ("softmax", "entmax", "aes", "aes-learned", "lln", "lln-diag")
    """Attentions by name, with parameters after a colon, e.g. `entmax:zeta=0.5`."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of the initial weights and of the order of the data."""

    text: tuple[str, ...] = ()
    """Text files (UTF-8), read one after the other; none = the embedded novels."""
    tokens: str = "byte"
    """`byte`, or `bpe:SIZE`: byte-pair encoding of SIZE tokens, learned from the training text."""

    model: str = "decoder"
    """`decoder`: causal language model (Llama); `encoder`: masked language model (BERT)."""
    layers: int = 4
    """Number of layers."""
    width: int = 128
    """Width of the residual stream."""
    heads: int = 4
    """Number of attention heads; divides `width`."""
    context: int = 256
    """Length of the training and validation windows, tokens."""

    steps: int = 1000
    """Optimiser steps of each run."""
    batch: int = 16
    """Windows in each step, over all processes."""
    learning_rate: float = 2e-3
    """Peak of the learning rate: linear warm-up over a tenth of the steps, then a cosine to 0."""
    weight_decay: float = 0.1
    """AdamW weight decay of the matrices; vectors and schedule parameters are not decayed."""

    probe_every: int = 25
    """Steps between two probes: loss and attention statistics by layer on one fixed batch."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    validation_windows: int = 256
    """Validation windows used at the end of a run, spread evenly; at most what the text has."""
    device: str = "auto"
    """`auto`: the GPU if there is one, else the CPU."""

    def __post_init__(self) -> None:
        if not self.attentions:
            raise ArgumentError("`attentions` must name at least one attention, got none.")
        if not self.seeds:
            raise ArgumentError("`seeds` must hold at least one seed, got none.")
        for name in ("attentions", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ArgumentError(f"`{name}` must be different from each other, got {values}.")
        for seed in self.seeds:
            # seed and example number share the 64 bits of a torch seed (windows.py)
            if not 0 <= seed < 2**31:
                raise ArgumentError(f"`seeds` must be in 0 .. 2^31 - 1, got {seed}.")
        _one_of("model", self.model, MODELS)
        _one_of("device", self.device, DEVICES)
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ArgumentError(
                    f"`{name}` must be at least {least}, got {getattr(self, name)}."
                )
        if self.width % self.heads:
            raise ArgumentError(
                f"`width` must be a multiple of `heads` ({self.heads}), got {self.width}."
            )
        if self.model == "decoder" and (self.width // self.heads) % 2:
            raise ArgumentError(
                "`width` / `heads` must be even for a decoder (rotary positions), "
                f"got {self.width} / {self.heads}."
            )
        if not 0 < self.learning_rate < float("inf"):
            raise ArgumentError(f"`learning_rate` must be > 0, got {self.learning_rate}.")

    def to_json(self) -> dict[str, Any]:
        """Plain lists, strings and numbers."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "CompareConfig":
        """Inverse of `to_json`.

        Raises:
            ArgumentError: a field is unknown, missing or out of range.
        """
        names = {f.name for f in fields(cls)}
        if set(stored) != names:
            odd = ", ".join(sorted(set(stored) ^ names))
            raise ArgumentError(f"`config` does not fit this version of gibbsian: {odd}.")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        return cls(**values)

    def differences(self, other: "CompareConfig") -> list[str]:
        """Fields that differ, as `name: mine -> other's`."""
        pairs = ((f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return [f"{name}: {mine} -> {theirs}" for name, mine, theirs in pairs if mine != theirs]


_LEAST: dict[str, int] = {
    "layers": 1,
    "width": 2,
    "heads": 1,
    "context": 2,
    "steps": 1,
    "batch": 1,
    "weight_decay": 0,
    "probe_every": 1,
    "checkpoint_every": 1,
    "validation_windows": 1,
}


def demo_config() -> CompareConfig:
    """A comparison that two CPU cores finish in under four minutes."""
    return replace(
        CompareConfig(),
        attentions=("softmax", "entmax", "aes", "lln-diag"),
        seeds=(0,),
        layers=2,
        width=96,
        heads=4,
        context=128,
        steps=250,
        validation_windows=64,
        probe_every=25,
        checkpoint_every=50,
    )
