"""Watch the attention of a model while it is trained, in any loop."""

import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gibbsian._errors import ArgumentError
from gibbsian.attention.inputs import checked_inputs
from gibbsian.integrations.transformers.call import AttentionCall
from gibbsian.integrations.transformers.capture import capture
from gibbsian.integrations.transformers.collapse import CollapseWatch
from gibbsian.integrations.transformers.support import check_supported, interface_layers
from gibbsian.observables.blocks import streamed_statistics
from gibbsian.observables.present import present_positions
from gibbsian.observables.spectral import eigenvalue_gap
from gibbsian.observables.temperature import head_temperatures

QUANTITIES = ("entropy", "normalized_entropy", "varentropy", "temperature", "gap")
"""What is observed of each layer."""

_GAP_TOLERANCE, _GAP_PRODUCTS = 1e-2, 24
"""A curve is plotted from it: two digits do."""

Mode = Literal["training", "evaluation"]


class AttentionObserver:
    """Statistics of a model's attention rows, layer by layer, in one step out of several.

    Made by `attention_observer`. In a step that is due, the first forward call of the model in the
    right mode is looked at (with gradient accumulation: the first part of the batch).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        every: int,
        samples: int,
        gap: bool,
        mode: Mode,
        collapse: CollapseWatch,
    ) -> None:
        for name, number in (("every", every), ("samples", samples)):
            if number < 1:
                raise ArgumentError(f"`{name}` must be >= 1, got {number}. 1 is the least.")
        layers = interface_layers(model)
        check_supported(model, layers)
        self.steps = 0
        """How many steps have ended."""
        self._model = model
        self._names = list(layers)
        self._every, self._samples, self._gap, self._mode = every, samples, gap, mode
        self._collapse = collapse
        self._found: dict[int, Tensor] = {}
        self._due = True
        self._broken = False
        self._capture = ExitStack()
        self._hooks = ExitStack()
        for handle in (
            model.register_forward_pre_hook(self._before),
            # also when the forward call fails: the model must not stay captured
            model.register_forward_hook(self._after, always_call=True),
        ):
            self._hooks.callback(handle.remove)

    def count_from(self, steps: int) -> None:
        """Let so many steps have ended: what is due is due as if they had been counted here."""
        self.steps = steps
        self._due = steps % self._every == 0

    def step(self) -> dict[str, float] | None:
        """End a step: call it once after every optimiser step.

        Returns:
            If the step was observed, `{"attention/layer_0/entropy": ..., ...}` with the
            quantities of `QUANTITIES` for every layer that was called; else None. What a layer
            does not have (a gap with other queries than keys) is left out.

        Warns:
            UserWarning: a layer's entropy has collapsed (once a layer).
        """
        self._capture.close()
        number, found = self.steps, self._found
        self.steps += 1
        self._found = {}
        # still due, if there was nothing to look at
        self._due = self._due or self.steps % self._every == 0
        if not found:
            return None
        # one transfer from the device, however many layers
        table = torch.stack([found[index] for index in sorted(found)]).tolist()
        values, entropies = {}, {}
        for index, row in zip(sorted(found), table, strict=True):
            for name, value in zip(QUANTITIES, row, strict=True):
                if math.isfinite(value):
                    values[f"attention/layer_{index}/{name}"] = value
            if math.isfinite(row[1]):
                entropies[f"layer {index} ({self._names[index]})"] = row[1]
        self._collapse.update(entropies, step=number)
        return values

    def close(self) -> None:
        """Leave the model as it was."""
        self._capture.close()
        self._hooks.close()

    def _before(self, model: nn.Module, arguments: Any) -> None:
        del arguments
        if self._due and model.training == (self._mode == "training"):
            self._due = False
            self._capture.enter_context(capture(self._model, self._look))

    def _after(self, model: nn.Module, arguments: Any, output: Any) -> None:
        del model, arguments
        # a backward pass that computes layers again must find them as they were; an exception
        # has no output, and no backward pass
        if output is None or not _checkpoints(self._model):
            self._capture.close()

    def _look(self, layer: int, call: AttentionCall) -> None:
        if layer in self._found:  # computed again in a backward pass, or shared
            return
        try:
            self._found[layer] = observe(call, samples=self._samples, gap=self._gap)
        except Exception as error:  # noqa: BLE001  (an instrument must not end what it watches)
            if not self._broken:
                self._broken = True
                warnings.warn(
                    f"The attention of layer {layer} could not be observed, and is left out: "
                    f"{error}",
                    stacklevel=2,
                )


def _checkpoints(model: nn.Module) -> bool:
    """As the property of transformers' models, whose name depends on the version."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


@contextmanager
def attention_observer(
    model: PreTrainedModel,
    *,
    every: int = 50,
    samples: int = 1,
    gap: bool = True,
    mode: Mode = "training",
    collapse_threshold: float = 0.1,
    collapse_patience: int = 3,
) -> Iterator[AttentionObserver]:
    """Observe the attention of a model in any training loop.

    Args:
        model: a transformers model whose attention goes through AttentionInterface, whatever its
            implementation; as it was again at the end, or after an exception.
        every: observe one step out of so many, the first one included.
        samples: how many samples of the batch are looked at.
        gap: also the spectral gap.
        mode: whether forward calls in training mode or in evaluation mode are observed.
        collapse_threshold: normalised entropy below which a layer counts as collapsed; 0 = never.
        collapse_patience: so many observations in a row before it warns.

    Yields:
        An `AttentionObserver`; call its `step()` after every optimiser step.

    Raises:
        UnsupportedModelError: the attention of this model cannot be looked at.

    Example:
        >>> with attention_observer(model, every=50) as observer:  # doctest: +SKIP
        ...     for batch in batches:
        ...         model(**batch).loss.backward()
        ...         optimizer.step()
        ...         optimizer.zero_grad()
        ...         if values := observer.step():
        ...             tracker.log(values)
    """
    observer = AttentionObserver(
        model,
        every=every,
        samples=samples,
        gap=gap,
        mode=mode,
        collapse=CollapseWatch(threshold=collapse_threshold, patience=collapse_patience),
    )
    try:
        yield observer
    finally:
        observer.close()


def observe(call: AttentionCall, *, samples: int, gap: bool) -> Tensor:
    """The `QUANTITIES` of one attention call, float32; NaN for what it does not have.

    Entropies and varentropies are means over heads and over the rows that see several keys and
    are not padding; temperature and gap are means over heads.
    """
    query, key = call.query[:samples], call.key[:samples]
    arguments = call.arguments()
    if call.mask is not None:
        arguments["mask"] = call.mask if call.mask.shape[0] == 1 else call.mask[:samples]
    with torch.autocast(query.device.type, enabled=False):
        inputs = checked_inputs(query, key, key, **arguments)
        statistics = streamed_statistics(inputs)
        present, _ = present_positions(inputs)
        weight = (present & (statistics.num_states > 1)).float()
        weight = weight / weight.sum()

        def mean(numbers: Tensor) -> Tensor:
            return (weight * numbers).sum()

        # a head whose scores do not vary is infinitely hot
        temperature = head_temperatures(query, key, **arguments).softmax
        temperature = torch.where(temperature.isfinite(), temperature, torch.nan)
        nothing = torch.full((), torch.nan, device=query.device)
        square = query.shape[2] == key.shape[2]
        return torch.stack(
            [
                mean(statistics.entropy),
                mean(statistics.normalized_entropy),
                mean(statistics.varentropy),
                temperature.nanmean(),
                _gap(query[:1], key[:1], arguments) if gap and square else nothing,
            ]
        ).float()


def _gap(query: Tensor, key: Tensor, arguments: dict[str, Any]) -> Tensor:
    """Mean eigenvalue gap of the heads of one sample."""
    mask = arguments["mask"]
    return eigenvalue_gap(
        query.float(),
        key.float(),
        **{**arguments, "mask": None if mask is None else mask[:1]},
        tolerance=_GAP_TOLERANCE,
        max_products=_GAP_PRODUCTS,
    ).gap.mean()
