"""Entropy, varentropy, temperature and spectral gap of every layer in the logs of a Trainer."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from gibbsian.integrations.transformers.observer import AttentionObserver, attention_observer


class EntropyMonitor(TrainerCallback):
    """Logs what the attention of each layer does while a Trainer trains; warns if it collapses.

    Args:
        log: receives the values of an observed step, by name; `trainer.log` hands them to
            TensorBoard and every other tracker of the Trainer, and to its log history.
        every: observe one step out of so many, the first one included.
        samples: how many samples of the (first part of the) batch are looked at.
        gap: also the spectral gap.
        evaluation: also observe the first batch of each evaluation during training; its names
            begin with `eval_`.
        collapse_threshold: normalised entropy below which a layer counts as collapsed; 0 = never.
        collapse_patience: so many observations in a row before it warns, once a layer.

    Raises:
        UnsupportedModelError: when training begins, if the attention of the model cannot be looked
            at.

    Notes:
        The cost of an observation is measured in results/monitor.json. In an observed step a model
        of `attn_implementation="eager"` computes with `scaled_dot_product_attention`. Only the
        main process observes.

    Example:
        >>> trainer.add_callback(EntropyMonitor(trainer.log, every=50))  # doctest: +SKIP
    """

    def __init__(
        self,
        log: Callable[[dict[str, float]], None],
        *,
        every: int = 50,
        samples: int = 1,
        gap: bool = True,
        evaluation: bool = False,
        collapse_threshold: float = 0.1,
        collapse_patience: int = 3,
    ) -> None:
        self._log = log
        self._evaluation = evaluation
        self._every = every
        self._options: dict[str, Any] = {
            "samples": samples,
            "gap": gap,
            "collapse_threshold": collapse_threshold,
            "collapse_patience": collapse_patience,
        }
        self._observers: dict[str, AttentionObserver] = {}
        self._open = ExitStack()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        """Start to observe."""
        del control, kwargs
        self._stop()  # an earlier training may have ended with an exception
        if model is None or not state.is_world_process_zero:
            return
        if args.n_gpu > 1:
            warnings.warn(
                "EntropyMonitor observes nothing: one process trains on several GPUs, by copies of "
                "the model. Start one process for each (torchrun).",
                stacklevel=2,
            )
            return
        training = attention_observer(model, every=self._every, **self._options)
        self._observers["training"] = self._open.enter_context(training)
        self._observers["training"].count_from(state.global_step)  # 0, or where a training goes on
        if self._evaluation:
            self._observers["evaluation"] = self._open.enter_context(
                attention_observer(model, every=1, mode="evaluation", **self._options)
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the step, if it was observed."""
        del args, state, kwargs
        self._report("training", control, prefix="")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the evaluation, if it was observed."""
        del args, state, kwargs
        self._report("evaluation", control, prefix="eval_")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the model as it was."""
        del args, state, control, kwargs
        self._stop()

    def _report(self, name: str, control: TrainerControl, *, prefix: str) -> None:
        observer = self._observers.get(name)
        values = None if observer is None else observer.step()
        if values:
            # the Trainer takes any log for the one that it wanted to write itself
            wanted = control.should_log
            self._log({f"{prefix}{key}": value for key, value in values.items()})
            control.should_log = wanted

    def _stop(self) -> None:
        self._open.close()
        self._observers.clear()
