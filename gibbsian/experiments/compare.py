"""The main job: the same transformer trained with each attention, all else being equal."""

import json
from pathlib import Path
from typing import Any

from accelerate import PartialState

from gibbsian._errors import ArgumentError, CheckpointError
from gibbsian.experiments.attentions import make_attention
from gibbsian.experiments.config import CompareConfig
from gibbsian.experiments.corpus import Corpus, load_corpus
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.recorder import Observer
from gibbsian.experiments.results import summarise_runs
from gibbsian.experiments.run import run_name, run_one
from gibbsian.experiments.training import choose_device

CONFIG = "config.json"
RESULTS = "results.json"
RUNS = "runs"


def compare(
    config: CompareConfig, out: Path, *, observer: Observer, resume: bool = False
) -> dict[str, Any]:
    """Train and measure every attention for every seed; write and return the results.

    All runs of a seed start from the same weights and see the same examples in the same order.
    Everything is written under `out`: config.json, runs/NAME/ (records, TensorBoard events,
    checkpoints, result.json) and at the end results.json. No JSON file is ever half
    there, of records at most the last line is, and a checkpoint counts once it is sealed.
    Under `torchrun` every process calls this; the results are those of the first one.

    Args:
        config: the settings.
        out: folder of the comparison.
        observer: told about the progress.
        resume: go on with the comparison in `out`: finished runs are kept, an interrupted one
            continues from its newest checkpoint to the same losses as without the interruption.

    Raises:
        ArgumentError: a setting is out of its range, or `out` cannot be written or is in use.
        DataError: the text cannot be read, is empty or too short.
        CheckpointError: what is in `out` is damaged or was made with other settings.
    """
    for attention in config.attentions:
        make_attention(attention)
    device = choose_device(config)
    corpus = load_corpus(config)
    process = PartialState(cpu=device.type == "cpu")
    with process.main_process_first():
        if process.is_main_process:
            _claim(out, config, corpus, resume=resume)
    grid = [(attention, seed) for seed in config.seeds for attention in config.attentions]
    runs = []
    for i, (attention, seed) in enumerate(grid):
        folder = out / RUNS / run_name(attention, seed)
        runs.append(
            run_one(
                config,
                attention,
                seed,
                corpus,
                folder,
                observer=observer,
                position=(i, len(grid)),
            )
        )
        process.wait_for_everyone()
    if not process.is_main_process:
        return {}
    results = {
        "format": 1,
        "config": config.to_json(),
        "text": corpus.description,
        "machine": describe_machine(device),
        "versions": describe_versions(),
        "summary": summarise_runs(runs),
        "runs": runs,
    }
    write_json(out / RESULTS, results)
    return results


def stored_config(out: Path) -> CompareConfig:
    """Settings of the comparison in `out`.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    path = out / CONFIG
    try:
        return CompareConfig.from_json(json.loads(path.read_text(encoding="utf-8"))["config"])
    except FileNotFoundError:
        raise CheckpointError(
            f"`out` must hold a comparison to resume, found no {path}. Start without --resume."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be used: {error} Start again in another folder."
        ) from None


def _claim(out: Path, config: CompareConfig, corpus: Corpus, *, resume: bool) -> None:
    if resume:
        _check_same(out, config, corpus)
        return
    if (out / CONFIG).exists():
        raise ArgumentError(
            f"`out` must not hold another comparison, got {out}. "
            "Add --resume to go on with it, or give another folder."
        )
    try:
        (out / RUNS).mkdir(parents=True, exist_ok=True)
        write_json(out / CONFIG, {"config": config.to_json(), "text": corpus.description})
    except OSError as error:
        raise ArgumentError(
            f"`out` must be a folder that can be written, got {out}: {error.strerror}. "
            "Give another folder."
        ) from None


def _check_same(out: Path, config: CompareConfig, corpus: Corpus) -> None:
    stored = stored_config(out)
    changed = stored.differences(config)
    text = json.loads((out / CONFIG).read_text(encoding="utf-8"))["text"]
    if text != corpus.description:
        changed.append(f"text: {text['sha256'][:8]} -> {corpus.description['sha256'][:8]}")
    if changed:
        raise CheckpointError(
            f"{out / CONFIG} was made with other settings ({'; '.join(changed)}). "
            "Resume with the same ones, or start in another folder."
        )
