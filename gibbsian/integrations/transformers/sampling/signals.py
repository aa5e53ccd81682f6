"""What the attention of a model tells the policy at each forward call."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gibbsian.attention.gibbs import attention_row_statistics
from gibbsian.integrations.transformers.call import AttentionCall
from gibbsian.integrations.transformers.capture import capture
from gibbsian.integrations.transformers.names import IMPLEMENTATIONS
from gibbsian.sampling import AttentionSignals


class SignalReader:
    """Nothing is read: the policy decides without attention."""

    arguments: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    """Of the model's forward call."""

    def read(self, outputs: Any) -> AttentionSignals | None:
        """Signals of the last forward call, for the token it predicts."""
        del outputs
        return None


class _OwnStatistics(SignalReader):
    """Of a model with gibbsian attention: the statistics that its layers return."""

    arguments = {"output_attentions": True}  # noqa: RUF012

    def read(self, outputs: Any) -> AttentionSignals | None:
        return AttentionSignals.from_layers(outputs.attentions)


class _CapturedStatistics(SignalReader):
    """Of any other model: the statistics of the newest query's rows, made from what it is asked."""

    def __init__(self) -> None:
        self._layers: dict[int, Tensor] = {}
        """Of each layer's last call: a prompt may be read in chunks."""

    def see(self, layer: int, call: AttentionCall) -> None:
        arguments = call.arguments() | {"is_causal": False}
        if call.mask is not None:
            arguments["mask"] = call.mask[:, :, -1:]
        # one row a head: compiled kernels would gain nothing
        rows = attention_row_statistics(
            call.query[:, :, -1:], call.key, backend="reference", **arguments
        )
        keys = rows.num_states.to(rows.entropy.dtype)
        zeta = torch.zeros_like(rows.entropy)
        found = [rows.entropy, rows.varentropy, zeta, keys, keys]
        self._layers[layer] = torch.stack(found, dim=-1)

    def read(self, outputs: Any) -> AttentionSignals | None:
        del outputs
        layers, self._layers = self._layers, {}
        return AttentionSignals.from_layers(list(layers.values()))


@contextmanager
def signal_reader(model: PreTrainedModel, *, wanted: bool) -> Iterator[SignalReader]:
    """A reader for the forward calls inside the context.

    Raises:
        UnsupportedModelError: wanted, and the model's attention can be neither asked nor captured.
    """
    if not wanted:
        yield SignalReader()
    elif model.config._attn_implementation in IMPLEMENTATIONS:  # noqa: SLF001
        yield _OwnStatistics()
    else:
        reader = _CapturedStatistics()
        with capture(model, reader.see):
            yield reader
