"""The callback in a real Trainer: what it logs, when, and what it leaves behind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import (
    DebertaV2Config,
    DebertaV2Model,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from gibbsian._errors import UnsupportedModelError
from gibbsian.integrations.transformers import EntropyMonitor, observer
from tests.integrations.transformers.families import LENGTH, VOCABULARY, build

# The new name is not in the oldest transformers that we support.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*tensorboard.*:FutureWarning"),
]


class _Texts(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = torch.randint(
            3, VOCABULARY, (LENGTH,), generator=torch.Generator().manual_seed(index)
        )
        return {"input_ids": tokens, "labels": tokens}


def _trainer(model: PreTrainedModel, folder: Path, **options: Any) -> Trainer:
    arguments: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 8,
        "logging_steps": 4,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    arguments |= options
    return Trainer(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=_Texts(),
        eval_dataset=_Texts(),
    )


def _observed(trainer: Trainer, prefix: str = "attention/") -> dict[int, dict[str, float]]:
    return {
        entry["step"]: {k: v for k, v in entry.items() if k.startswith(prefix)}
        for entry in trainer.state.log_history
        if any(key.startswith(prefix) for key in entry)
    }


def test_every_few_steps_every_layer(tmp_path: Path) -> None:
    model = build("gpt2")
    trainer = _trainer(model, tmp_path)
    trainer.add_callback(EntropyMonitor(trainer.log, every=2))
    trainer.train()
    observed = _observed(trainer)
    assert list(observed) == [1, 3, 5]
    names = {f"attention/layer_{i}/{name}" for i in (0, 1) for name in observer.QUANTITIES}
    assert all(set(values) == names for values in observed.values())
    assert model.config._attn_implementation == "sdpa"
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    trainer = _trainer(build("gpt2"), tmp_path, report_to="tensorboard")
    trainer.add_callback(EntropyMonitor(trainer.log, every=3))
    trainer.train()
    (events,) = tmp_path.rglob("events.out.tfevents.*")
    board = EventAccumulator(str(events))
    board.Reload()
    series = board.Scalars("train/attention/layer_1/entropy")
    assert [point.step for point in series] == [1, 4]
    logged = [values["attention/layer_1/entropy"] for values in _observed(trainer).values()]
    torch.testing.assert_close([point.value for point in series], logged)


@pytest.mark.parametrize("evaluation", [False, True])
def test_evaluation_only_when_asked(tmp_path: Path, evaluation: bool) -> None:
    trainer = _trainer(build("gpt2"), tmp_path, eval_strategy="steps", eval_steps=3)
    trainer.add_callback(EntropyMonitor(trainer.log, every=6, evaluation=evaluation))
    trainer.train()
    assert list(_observed(trainer)) == [1]
    assert list(_observed(trainer, "eval_attention/")) == ([3, 6] if evaluation else [])
    trainer.evaluate()
    assert len(_observed(trainer, "eval_attention/")) == (2 if evaluation else 0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_accumulation(tmp_path: Path, checkpointing: bool) -> None:
    trainer = _trainer(
        build("llama"), tmp_path, gradient_accumulation_steps=3,
        gradient_checkpointing=checkpointing, max_steps=3,
    )  # fmt: skip
    trainer.add_callback(EntropyMonitor(trainer.log, every=2))
    trainer.train()
    assert list(_observed(trainer)) == [1, 3]


class _Fails(TrainerCallback):
    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_can_begin_again_after_an_exception(tmp_path: Path, checkpointing: bool) -> None:
    model = build("llama")
    trainer = _trainer(model, tmp_path, gradient_checkpointing=checkpointing)
    trainer.add_callback(EntropyMonitor(trainer.log, every=2))
    trainer.add_callback(_Fails)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    trainer.remove_callback(_Fails)
    trainer.train()
    assert list(_observed(trainer)) == [1, 3, 5]
    assert model.config._attn_implementation == "sdpa"
    assert not model._forward_hooks


def test_losses_are_what_they_were(tmp_path: Path) -> None:
    losses = []
    for watched in (False, True):
        torch.manual_seed(0)
        trainer = _trainer(build("gpt2"), tmp_path, logging_steps=1)
        if watched:
            trainer.add_callback(EntropyMonitor(trainer.log, every=2))
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_collapse_warns(tmp_path: Path) -> None:
    model = build("gpt2")
    trainer = _trainer(model, tmp_path)
    trainer.add_callback(
        EntropyMonitor(trainer.log, every=1, collapse_threshold=1.0, collapse_patience=2)
    )
    with pytest.warns(UserWarning, match="Attention entropy has collapsed") as told:
        trainer.train()
    assert sum("collapsed" in str(warning.message) for warning in told) == 2


def test_a_model_that_cannot_be_observed_is_refused_at_the_start(tmp_path: Path) -> None:
    config = DebertaV2Config(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4
    )
    monitor = EntropyMonitor(lambda _: None)
    trainer = _trainer(build("gpt2"), tmp_path)
    with pytest.raises(UnsupportedModelError):
        monitor.on_train_begin(
            trainer.args, trainer.state, trainer.control, model=DebertaV2Model(config)
        )


def test_a_resumed_training_is_observed_at_the_same_steps(tmp_path: Path) -> None:
    for steps in (3, 6):
        trainer = _trainer(
            build("gpt2"), tmp_path, max_steps=steps, save_strategy="steps", save_steps=3
        )
        trainer.add_callback(EntropyMonitor(trainer.log, every=2))
        trainer.train(resume_from_checkpoint=steps == 6)
    assert list(_observed(trainer)) == [1, 3, 5]


def test_copies_of_a_model_are_not_observed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = _trainer(build("gpt2"), tmp_path).args
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    monitor = EntropyMonitor(print)
    with pytest.warns(UserWarning, match="observes nothing: .* Start one process for each"):
        monitor.on_train_begin(arguments, TrainerState(), TrainerControl(), model=build("gpt2"))
    monitor.on_step_end(arguments, TrainerState(), TrainerControl())
