"""One run of a comparison: one attention, one seed."""

import json
import re
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from gibbsian._errors import CheckpointError
from gibbsian.experiments.attentions import make_attention
from gibbsian.experiments.complexity import products_per_token
from gibbsian.experiments.config import CompareConfig
from gibbsian.experiments.corpus import Corpus
from gibbsian.experiments.files import read_records, write_json
from gibbsian.experiments.measure import measure, overall, schedule_values
from gibbsian.experiments.memory import peak_step_memory
from gibbsian.experiments.models import build_model
from gibbsian.experiments.recorder import PROBES, STEPS, Observer
from gibbsian.experiments.results import thin
from gibbsian.experiments.training import choose_device, train
from gibbsian.experiments.windows import TrainingExamples, validation_batches
from gibbsian.integrations.transformers import use

RESULT = "result.json"
STATISTICS_BATCHES = 8
"""Validation batches whose attention rows are measured."""


def run_name(attention: str, seed: int) -> str:
    """Folder of a run: the attention without the characters that file systems dislike."""
    return f"{re.sub(r'[^A-Za-z0-9.=-]+', '_', attention)}-seed{seed}"


def run_one(
    config: CompareConfig,
    attention: str,
    seed: int,
    corpus: Corpus,
    folder: Path,
    *,
    observer: Observer,
    position: tuple[int, int],
) -> dict[str, Any]:
    """Train and measure, or read the result if the run is finished.

    Args:
        config: settings of the comparison.
        attention: as in `config.attentions`.
        seed: of the weights and of the data order.
        corpus: tokens and windows.
        folder: of this run.
        observer: told about the progress.
        position: number of this run, and of all runs.
    """
    if (folder / RESULT).exists():
        observer.on_run(folder.name, *position, config.steps, config.steps)
        return _read_result(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = build_model(config, corpus.tokens.size, seed)
    module = make_attention(attention)
    use(model, module)
    torch.nn.Module.to(model, choose_device(config))
    batches = validation_batches(
        corpus.validation,
        config.validation_windows,
        config.batch,
        kind=config.model,
        mask_token=corpus.tokens.size,
    )
    examples = TrainingExamples(
        corpus.train,
        config.steps * config.batch,
        kind=config.model,
        mask_token=corpus.tokens.size,
        seed=seed,
    )
    train(
        model,
        examples,
        config,
        seed=seed,
        folder=folder,
        probe=batches[0],
        num_bytes=corpus.tokens.num_bytes,
        on_start=lambda first: observer.on_run(folder.name, *position, first, config.steps),
        on_step=observer.on_step,
    )
    if not PartialState().is_main_process:
        return {}
    found = measure(model, batches, corpus.tokens.num_bytes, statistics_batches=STATISTICS_BATCHES)
    scores, values = products_per_token(module, found.layers, config)
    steps = read_records(folder / STEPS)
    result = {
        "attention": attention,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation_bits_per_byte": found.bits_per_byte,
        **asdict(overall(found.layers)),
        "score_products": scores,
        "value_products": values,
        "step_seconds": statistics.median(record["seconds"] for record in steps),
        "peak_memory_bytes": peak_step_memory(model, batches[0]),
        "layers": [asdict(layer) for layer in found.layers],
        "schedules": schedule_values(model),
        "curve": thin(steps, "loss"),
        "probes": read_records(folder / PROBES),
    }
    write_json(folder / RESULT, result)
    return _read_result(folder)


def _read_result(folder: Path) -> dict[str, Any]:
    """The same whether the run has just ended or was found finished."""
    path = folder / RESULT
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CheckpointError(
            f"{path} is damaged: not JSON. Delete the folder {folder} to make the run again."
        ) from None
    return result
