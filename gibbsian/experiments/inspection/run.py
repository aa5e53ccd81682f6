"""One inspection, from files to files."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from gibbsian._errors import UnsupportedModelError
from gibbsian.experiments.files import write_json
from gibbsian.experiments.inspection.config import InspectConfig, make_schedule
from gibbsian.experiments.inspection.folder import INSPECTION, SCHEMA, STATISTICS
from gibbsian.experiments.inspection.measure import measure_layer
from gibbsian.experiments.inspection.next_token import (
    Expectation,
    expectations,
    quadrant,
    thresholds,
)
from gibbsian.experiments.inspection.samples import Sample, image_sample, text_sample
from gibbsian.experiments.inspection.subject import Subject, load_subject
from gibbsian.experiments.inspection.summary import Summary, rounded
from gibbsian.experiments.inspection.table import RowTable
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.text import Text, load_text
from gibbsian.integrations.transformers import AttentionCall, capture
from gibbsian.normalizers.schedules import Schedule, schedule_to_config


@runtime_checkable
class Observer(Protocol):
    """Is told about the progress."""

    def on_layer(self, name: str, done: int, total: int) -> None:
        """So many of all layers of all inputs are done; the next one is of input `name`."""

    def on_step(self, text: str) -> None:
        """Say what is being done."""


@torch.no_grad()
def inspect_model(
    config: InspectConfig, folder: Path, *, command: str, observer: Observer
) -> dict[str, Any]:
    """Measure every attention row of a model on texts or images.

    Writes statistics.parquet (while the model runs, layer by layer) and inspection.json.

    Args:
        config: the settings.
        folder: exists; see `whole_folder`.
        command: that makes this inspection again, for the record.
        observer: told about the progress.

    Returns:
        The content of inspection.json.

    Raises:
        DataError: a file cannot be used, or a text is longer than the model's positions.
        ArgumentError: a setting is wrong, or the model does not fit the inputs.
        UnsupportedModelError: some of its attention cannot be read.

    Notes:
        Memory is linear in the length, beside the weights: hidden states, one layer's queries and
        keys, a few numbers a row of one layer, and the logits of a few positions.
    """
    started = time.monotonic()
    schedule = make_schedule(config.schedule)
    texts = [load_text([path]) for path in config.texts]
    observer.on_step("loading the model")
    subject = load_subject(config.model, images=bool(config.images))
    samples = _samples(subject, config, texts)
    run = _Run(subject, samples, schedule, config, observer)
    with closing(RowTable(folder / STATISTICS)) as table:
        for number in range(len(samples)):
            run.read(number, table)
    inspection = {
        "schema": SCHEMA,
        "model": config.model,
        "kind": run.kind,
        "command": command,
        "created": datetime.now(tz=timezone.utc).isoformat(timespec="seconds"),
        "versions": describe_versions(),
        "machine": describe_machine(torch.device("cpu")),
        "schedule": schedule_to_config(schedule),
        **run.results(),
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_bytes": _peak_memory(),
    }
    write_json(folder / INSPECTION, inspection)
    return inspection


def _peak_memory() -> int | None:
    """Largest resident memory of this process so far, the model included."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415  (POSIX only)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _samples(subject: Subject, config: InspectConfig, texts: Sequence[Text]) -> list[Sample]:
    if config.images:
        return [image_sample(subject, Path(path)) for path in config.images]
    return [text_sample(subject, text, config.tokens) for text in texts]


class _Run:
    """What is known so far."""

    def __init__(
        self,
        subject: Subject,
        samples: Sequence[Sample],
        schedule: Schedule,
        config: InspectConfig,
        observer: Observer,
    ) -> None:
        self._subject = subject
        self._samples = samples
        self._schedule = schedule
        self._config = config
        self._observer = observer
        self._summary: Summary | None = None
        self._lengths = [0] * len(samples)
        self._attention_entropy: list[Tensor] = []
        self._expected: list[list[Expectation]] = []
        self._causal = False

    def read(self, number: int, table: RowTable) -> None:
        """Run the model on one input, and look at every layer and every next token."""
        sample, model = self._samples[number], self._subject.model
        seen: set[int] = set()
        entropies: list[Tensor] = []
        layers = 0

        def look(layer: int, call: AttentionCall) -> None:
            done = number * layers + len(seen)
            self._observer.on_layer(sample.name, done, layers * len(self._samples))
            seen.add(layer)
            measures = measure_layer(
                call,
                self._schedule,
                gap_positions=self._config.gap_positions,
                agreement_rows=self._config.agreement_rows,
            )
            self._causal |= call.is_causal
            self._lengths[number] = call.query.shape[2]
            if self._summary is None:
                keys = max(call.key.shape[2], *(len(s.pieces or ()) for s in self._samples))
                self._summary = Summary(layers=layers, inputs=len(self._samples), keys=keys)
            self._summary.add(layer, measures)
            table.add(number, layer, measures)
            entropies.append(measures.rows["entropy"].mean(dim=0))

        with capture(model, look) as found:
            layers = len(found)
            outputs = model.base_model(**sample.inputs)
        silent = [name for index, name in enumerate(found) if index not in seen]
        if silent:
            raise UnsupportedModelError(
                f"{type(model).__name__} did not send the attention of {silent[0]} (and "
                f"{len(silent) - 1} more) through transformers' AttentionInterface. "
                "Use a model family that does, e.g. BERT, GPT-2 or Llama."
            )
        self._observer.on_layer(sample.name, (number + 1) * layers, layers * len(self._samples))
        if sample.pieces is None:
            return
        self._attention_entropy.append(torch.stack(entropies).mean(dim=0))
        self._expected.append([])
        if self._subject.predicts:
            self._observer.on_step("next tokens")
            hidden = outputs.last_hidden_state
            self._expected[-1].extend(expectations(model, hidden, sample.inputs["input_ids"]))

    @property
    def kind(self) -> str:
        """Of the model, as inspection.json names it."""
        if self._config.images:
            return "vision"
        return "causal" if self._subject.predicts or self._causal else "encoder"

    def results(self) -> dict[str, Any]:
        """What inspection.json says of inputs, layers and tokens."""
        if self._summary is None:
            raise UnsupportedModelError(
                f"{self._subject.name!r} called no attention. Give a transformer."
            )
        maps = self._summary.maps()
        levels = thresholds(
            [e for expected in self._expected for e in expected],
            self._config.entropy_threshold,
            self._config.varentropy_threshold,
        )
        return {
            "inputs": [
                {"name": sample.name, "length": length}
                for sample, length in zip(self._samples, self._lengths, strict=True)
            ],
            "layers": len(maps["entropy"]),
            "heads": self._summary.num_heads,
            "gap_positions": min(self._config.gap_positions, max(self._lengths)),
            "agreement_rows": min(self._config.agreement_rows, max(self._lengths)),
            "maps": maps,
            "histograms": self._summary.histograms(),
            "support_points": self._summary.support_points(),
            "tokens": None if self._config.images else list(self._tokens(levels)),
            "thresholds": levels,
        }

    def _tokens(self, levels: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for number, sample in enumerate(self._samples):
            # the first token is expected by nothing
            expected = [None, *self._expected[number]]
            for i, piece in enumerate(sample.pieces or ()):
                found = expected[i] if i < len(expected) else None
                yield {
                    "input": number,
                    "text": piece,
                    "surprisal": found and found["surprisal"],
                    "entropy": found and found["entropy"],
                    "varentropy": found and found["varentropy"],
                    "quadrant": found and quadrant(found, levels),
                    "alternatives": [
                        [self._subject.tokenizer.decode([token]), probability]
                        for token, probability in (found["alternatives"] if found else ())
                    ],
                    "attention_entropy": rounded(float(self._attention_entropy[number][i])),
                }
