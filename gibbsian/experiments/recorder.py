"""What is written while a run trains: JSON lines, TensorBoard events, sealed checkpoints."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from gibbsian.experiments import checkpoints
from gibbsian.experiments.files import append_record, rewind_records
from gibbsian.experiments.measure import Batch, Measurement, measure

STEPS = "steps.jsonl"
PROBES = "probes.jsonl"
CHECKPOINTS = "checkpoints"


@runtime_checkable
class Observer(Protocol):
    """Follows a comparison, e.g. with a progress bar."""

    def on_run(self, name: str, index: int, total: int, first_step: int, last_step: int) -> None:
        """A run starts, or goes on after `first_step` steps."""

    def on_step(self, step: int, loss: float) -> None:
        """A step is done."""


class Recorder(TrainerCallback):
    """Records every step and probes the model on one fixed batch.

    Args:
        folder: where the run keeps its files.
        first_step: steps already taken; later records of an interrupted attempt are dropped.
        probe: the fixed batch.
        num_bytes: bytes of each token.
        probe_every: steps between two probes; the first and the last step are always probed.
        on_step: called with the step and its loss.
    """

    def __init__(
        self,
        folder: Path,
        *,
        first_step: int,
        probe: Batch,
        num_bytes: Int64[Tensor, "tokens"],
        probe_every: int,
        on_step: Callable[[int, float], None],
    ) -> None:
        self._folder = folder
        self._probe = probe
        self._num_bytes = num_bytes
        self._probe_every = probe_every
        self._on_step = on_step
        self._started = self._seconds = 0.0
        for name in (STEPS, PROBES):
            # the probe of the initial weights, of step 0, will be made again too
            rewind_records(folder / name, first_step or -1)
        self._events = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)

    def on_train_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002  (transformers' signature)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        """Probe the initial weights."""
        if state.global_step == 0:
            self._record_probe(0, kwargs["model"])

    def on_step_begin(self, *_: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._started = _time_of(kwargs["model"])

    def on_step_end(self, *_: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        self._seconds = _time_of(kwargs["model"]) - self._started

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **kwargs: Any,
    ) -> None:
        """Record a step; at its turn, probe."""
        logs: dict[str, float] = kwargs["logs"]
        if "loss" not in logs:  # the summary at the end
            return
        step = state.global_step
        record = {
            "step": step,
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
            "gradient_norm": logs["grad_norm"],
            "seconds": self._seconds,
        }
        append_record(self._folder / STEPS, record)
        for name in ("loss", "learning_rate", "gradient_norm"):
            self._events.add_scalar(f"train/{name}", record[name], step)
        if step % self._probe_every == 0 or step == state.max_steps:
            self._record_probe(step, kwargs["model"])
        self._on_step(step, logs["loss"])

    def on_save(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Seal the checkpoint that was just written."""
        checkpoints.seal(self._folder / CHECKPOINTS / f"checkpoint-{state.global_step}")

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the event file."""
        self._events.close()

    def _record_probe(self, step: int, model: PreTrainedModel) -> None:
        probe = measure(model, [self._probe], self._num_bytes)
        append_record(
            self._folder / PROBES,
            {
                "step": step,
                "bits_per_byte": probe.bits_per_byte,
                "layers": [asdict(layer) for layer in probe.layers],
            },
        )
        self._write_events(step, probe)

    def _write_events(self, step: int, probe: Measurement) -> None:
        self._events.add_scalar("probe/bits_per_byte", probe.bits_per_byte, step)
        for i, layer in enumerate(probe.layers):
            for name, value in asdict(layer).items():
                self._events.add_scalar(f"{name}/layer_{i}", value, step)


def _time_of(model: PreTrainedModel) -> float:
    """Seconds on the clock, when all that the model's device was asked for is done."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()
