"""One training run through the Trainer of transformers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState
from jaxtyping import Int64
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging

from gibbsian._errors import ArgumentError
from gibbsian.experiments import checkpoints
from gibbsian.experiments.config import CompareConfig
from gibbsian.experiments.measure import Batch
from gibbsian.experiments.recorder import CHECKPOINTS, Recorder
from gibbsian.experiments.windows import TrainingExamples

WARMUP_FRACTION = 0.1


def choose_device(config: CompareConfig) -> torch.device:
    """The device that `config.device` stands for on this machine.

    Raises:
        ArgumentError: a GPU is asked for and there is none.
    """
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ArgumentError(
            "`device` 'cuda' needs a GPU that torch can use, found none. Use 'cpu' or 'auto'."
        )
    return torch.device("cuda")


def train(
    model: PreTrainedModel,
    examples: TrainingExamples,
    config: CompareConfig,
    *,
    seed: int,
    folder: Path,
    probe: Batch,
    num_bytes: Int64[Tensor, "tokens"],
    on_start: Callable[[int], None],
    on_step: Callable[[int, float], None],
) -> None:
    """Train `model` in place, from the run's newest checkpoint if it has one.

    Under `torchrun` every process calls this with the same arguments; only the first one writes.

    Args:
        model: with its initial weights.
        examples: one for each window of each step, in order.
        config: settings of the comparison.
        seed: of this run.
        folder: where the run keeps its records and checkpoints.
        probe: batch for the recorder.
        num_bytes: bytes of each token.
        on_start: called with the number of steps that were taken before.
        on_step: called in the first process after each step, with its loss.

    Raises:
        CheckpointError: the newest checkpoint is damaged.
        ArgumentError: the batch does not divide over the processes.
    """
    arguments = _arguments(config, seed=seed, folder=folder / CHECKPOINTS)
    process = PartialState()
    with process.main_process_first():  # the first process removes half-written checkpoints
        checkpoint = checkpoints.newest(folder / CHECKPOINTS)
    first_step = checkpoints.step_of(checkpoint) if checkpoint else 0
    callbacks: list[TrainerCallback] = []
    if process.is_main_process:
        on_start(first_step)
        recorder = Recorder(
            folder,
            first_step=first_step,
            probe=probe,
            num_bytes=num_bytes,
            probe_every=config.probe_every,
            on_step=on_step,
        )
        callbacks.append(recorder)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        callbacks=callbacks,
        optimizers=(make_optimizer(model, config), None),
    )
    trainer.remove_callback(PrinterCallback)
    with _without_bars():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Transformers draws a bar for each file of a checkpoint."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def make_optimizer(model: nn.Module, config: CompareConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only, no norms, biases or schedule parameters."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def _arguments(config: CompareConfig, *, seed: int, folder: Path) -> TrainingArguments:
    processes = PartialState().num_processes
    if config.batch % processes:
        raise ArgumentError(
            f"`batch` must be a multiple of the number of processes ({processes}), "
            f"got {config.batch}."
        )
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch // processes,
        train_sampling_strategy="sequential",  # the examples come in their order already
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(WARMUP_FRACTION * config.steps),
        max_grad_norm=1.0,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a NaN loss has to show
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        save_total_limit=2,  # the one before is kept until the newest is sealed
        seed=seed,
        use_cpu=choose_device(config).type == "cpu",
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    if arguments.n_gpu > 1:
        raise ArgumentError(
            f"`device` must be one GPU in each process, found {arguments.n_gpu}. "
            "Start with torchrun, or set CUDA_VISIBLE_DEVICES=0."
        )
    return arguments
