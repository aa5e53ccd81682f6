"""Loss in bits per byte, and the statistics of the attention rows, on fixed batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel

from gibbsian.attention import AES
from gibbsian.attention.base import AttentionStatistics
from gibbsian.experiments.windows import IGNORED
from gibbsian.normalizers.schedules.parameters import PerHeadParameters

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerStatistics:
    """Means over the attention rows (batch, heads, queries) of one layer."""

    entropy: float
    """Shannon entropy of the rows, nats."""
    varentropy: float
    """Varentropy, nats squared."""
    zeta: float
    """Sparsity."""
    support_fraction: float
    """Keys with a weight > 0, as a part of the keys the row may attend to."""
    support_size: float
    """Keys with a weight > 0."""
    num_keys: float
    """Keys the row may attend to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What a model does on some batches."""

    bits_per_byte: float
    """Loss of the predicted tokens, per byte of them."""
    layers: tuple[LayerStatistics, ...]
    """Statistics by layer, from the first."""


@torch.no_grad()
def measure(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    num_bytes: Int64[Tensor, "tokens"],
    *,
    statistics_batches: int | None = None,
) -> Measurement:
    """Loss on all batches, attention statistics on `statistics_batches` of them (None = all).

    Batches with statistics are spread evenly. The model is put back into training mode if it was.
    """
    training = model.training
    model.eval()
    wanted = len(batches) if statistics_batches is None else min(statistics_batches, len(batches))
    with_statistics = {i * len(batches) // wanted for i in range(wanted)}
    nats, covered = 0.0, 0
    collected: list[tuple[Tensor, ...]] = []
    for i, batch in enumerate(batches):
        inputs = {key: value.to(model.device) for key, value in batch.items()}
        outputs = model(**inputs, output_attentions=i in with_statistics)
        predicted = batch["labels"][batch["labels"] != IGNORED]
        nats += float(outputs.loss) * len(predicted)
        covered += int(num_bytes[predicted].sum())
        if i in with_statistics:
            collected.append(outputs.attentions)
    model.train(training)
    layers = tuple(summarise(layer) for layer in zip(*collected, strict=True))
    return Measurement(bits_per_byte=nats / math.log(2) / covered, layers=layers)


def summarise(stacked: Sequence[Float[Tensor, "_ _ _ 5"]]) -> LayerStatistics:
    """Means over all rows of a layer, from `AttentionStatistics.stack()` of several batches."""
    rows = torch.cat([s.double().reshape(-1, len(AttentionStatistics.names)) for s in stacked])
    mean = dict(zip(AttentionStatistics.names, rows.mean(dim=0).tolist(), strict=True))
    support, keys = (
        rows[:, AttentionStatistics.names.index(n)] for n in ("support_size", "num_keys")
    )
    return LayerStatistics(**mean, support_fraction=float((support / keys.clamp_min(1)).mean()))


def schedule_values(model: nn.Module) -> list[dict[str, list[float]]]:
    """What each layer's learnable schedule has learned: its values by name, one for each head.

    Empty where no schedule learns.
    """
    schedules = [
        module.schedule
        for module in model.modules()
        if isinstance(module, AES) and isinstance(module.schedule, PerHeadParameters)
    ]
    return [
        {name: value.tolist() for name, value in schedule.values().items()}
        for schedule in schedules
    ]


def overall(layers: Sequence[LayerStatistics]) -> LayerStatistics:
    """Mean over layers, which all have the same number of rows."""
    names = LayerStatistics.__slots__
    return LayerStatistics(
        **{name: sum(getattr(layer, name) for layer in layers) / len(layers) for name in names}
    )
