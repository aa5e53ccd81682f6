"""What freezing the sparsity of rows changes, by their varentropy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gibbsian.attention import AES, entmax_attention
from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.heads import (
    Layer,
    ModelName,
    language_model,
    missing_weights,
    real_layers,
    text_tokens,
)
from gibbsian.experiments.claims.intervals import (
    Estimate,
    mean_correlation,
    mean_of,
    rank_correlation,
)
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.integrations.transformers import remove, use
from gibbsian.integrations.transformers.names import SUBMODULE
from gibbsian.normalizers.schedules import Linear, Schedule
from gibbsian.statistics import GibbsStatistics, gibbs_statistics

MODEL: ModelName = "SmolLM2-135M"
DECILES = 10
FEWER = 1 / 3
LEAST_KEYS = 16
BY = ("varentropy", "susceptibility")


def dynamic_schedule() -> Linear:
    """The schedule whose freezing is studied."""
    return Linear(low=0.2, high=0.9, zeta_max=0.5)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrozenHeads:
    """What one layer's heads are frozen at, and between which values of which statistic."""

    mean: Tensor
    """Mean sparsity of each head."""
    edges: dict[str, Tensor]
    """(heads, 11): deciles of each statistic."""


class _Noting:
    """The dynamic schedule; notes mean sparsity and deciles of every head."""

    def __init__(self, inner: Schedule) -> None:
        self._inner = inner
        self.found: FrozenHeads

    def __call__(self, statistics: GibbsStatistics) -> Tensor:
        zeta = self._inner(statistics)
        rows = (statistics.num_states >= LEAST_KEYS)[0, 0]
        levels = torch.linspace(0, 1, DECILES + 1)
        self.found = FrozenHeads(
            mean=zeta[0][:, rows].mean(dim=-1, keepdim=True),
            edges={
                name: getattr(statistics, name)[0][:, rows].quantile(levels, dim=-1).T
                for name in BY
            },
        )
        return zeta


class _Freezing:
    """The dynamic schedule, but the head's mean for rows of one decile."""

    def __init__(self, inner: Schedule, frozen: FrozenHeads, by: str, decile: int) -> None:
        self._inner = inner
        self._frozen = frozen
        self._by, self._decile = by, decile

    def __call__(self, statistics: GibbsStatistics) -> Tensor:
        zeta = self._inner(statistics)
        values = getattr(statistics, self._by)
        edges = self._frozen.edges[self._by]
        low, high = edges[:, self._decile, None], edges[:, self._decile + 1, None]
        chosen = (values >= low) & (values <= high) & (statistics.num_states >= LEAST_KEYS)
        return torch.where(chosen, self._frozen.mean, zeta)


@torch.no_grad()
def loss_changes(window: int, length: int) -> dict[str, tuple[list[float], list[float]]]:
    """Mean absolute and mean change of the tokens' losses, by statistic, for each decile.

    All heads of all layers are frozen at once, in the rows of one decile of each head's own rows.
    """
    tokens = text_tokens(MODEL, length, window)
    model = use(language_model(), AES(schedule=dynamic_schedule())).eval()
    try:
        return _changes(model, tokens)
    finally:
        remove(model)  # which other claims use too


def _changes(model: PreTrainedModel, tokens: Tensor) -> dict[str, tuple[list[float], list[float]]]:
    layers: list[Any] = [
        getattr(module, SUBMODULE) for module in model.modules() if hasattr(module, SUBMODULE)
    ]

    def losses(schedule: Callable[[int], Schedule]) -> Tensor:
        for index, layer in enumerate(layers):
            layer.schedule = schedule(index)
        log_p = model(tokens, use_cache=False).logits[0, LEAST_KEYS:-1].double().log_softmax(-1)
        loss: Tensor = -log_p.gather(1, tokens[0, LEAST_KEYS + 1 :, None]).squeeze(1)
        return loss

    inner = dynamic_schedule()
    noting = [_Noting(inner) for _ in layers]
    base = losses(lambda index: noting[index])
    frozen = [note.found for note in noting]

    def changed(by: str, decile: int) -> Tensor:
        return losses(lambda index: _Freezing(inner, frozen[index], by, decile)) - base

    found = {}
    for by in BY:
        changes = [changed(by, decile) for decile in range(DECILES)]
        found[by] = (
            [change.abs().mean().item() for change in changes],
            [change.mean().item() for change in changes],
        )
    return found


@torch.no_grad()
def output_changes(layer: Layer) -> dict[str, list[float]]:
    """Relative change of a layer's outputs when all its rows are frozen, median by decile."""
    scores = layer.scores()
    statistics = gibbs_statistics(scores)
    zeta = dynamic_schedule()(statistics)
    rows = statistics.num_states[0] >= LEAST_KEYS
    mean = zeta[:, rows].mean(dim=-1, keepdim=True).expand_as(zeta)
    outputs = [
        entmax_attention(
            layer.query[None].double(),
            layer.key[None].double(),
            layer.value[None].double(),
            zeta=z[None],
            is_causal=layer.causal,
        )[0]
        for z in (zeta, mean)
    ]
    change = (outputs[1] - outputs[0]).norm(dim=-1) / outputs[0].norm(dim=-1)
    moved = (zeta - mean).abs()
    found = {}
    for by in BY:
        values = getattr(statistics, by)[:, rows]
        rank = values.argsort(dim=-1).argsort(dim=-1) * DECILES // values.shape[-1]
        found[by] = [change[:, rows][rank == k].mean().item() for k in range(DECILES)]
        found[f"distance by {by}"] = [
            moved[:, rows][rank == k].mean().item() for k in range(DECILES)
        ]
    return found


def measure(size: Size, seed: int) -> Measured:
    """Losses on stretches of text, outputs of every layer."""
    missing = missing_weights(MODEL)
    length, windows = (96, 2) if size == "quick" else (384, 4)
    scale = (
        f"{MODEL}, all 270 heads, {windows} stretches of {length} tokens of Austen; linear "
        "schedule, ζ from 0.5 at S / log n = 0.2 to 0 at 0.9, no training; rows of at least "
        f"{LEAST_KEYS} keys"
    )
    if missing:
        return Measured(numbers={}, scale=scale, missing=missing)
    chosen = range(seed, seed + windows)
    losses = [loss_changes(window % 15, length) for window in chosen]
    outputs = [output_changes(layer) for layer in real_layers(MODEL, length, seed % 15)]
    numbers: dict[str, Estimate] = {}
    tables: dict[str, dict[str, list[list[float]]]] = {}
    for by in BY:
        tables[by] = {
            "loss": [found[by][0] for found in losses],
            "output": [found[by] for found in outputs],
        }
        signed = [found[by][1] for found in losses]
        for what, table in tables[by].items():
            over = "stretches of text" if what == "loss" else "layers"
            label = f"change of the {what} by {by}"
            numbers[f"{label}, rank correlation with the decile"] = mean_correlation(
                [rank_correlation(range(DECILES), row) for row in table], over
            )
            numbers[f"{label}, lowest over highest decile"] = mean_of(
                [row[0] / row[-1] for row in table], over
            )
            for k in (0, DECILES // 2, DECILES - 1):
                numbers[f"{label}, decile {k + 1}"] = mean_of([row[k] for row in table], over)
        distances = [found[f"distance by {by}"] for found in outputs]
        rates = [
            [a / b for a, b in zip(row, moved, strict=True)]
            for row, moved in zip(tables[by]["output"], distances, strict=True)
        ]
        tables[by] |= {"distance": distances, "rate": rates}
        for name, table in (
            ("distance of ζ from its mean", distances),
            ("output a unit of ζ", rates),
        ):
            numbers[f"{name} by {by}, rank correlation with the decile"] = mean_correlation(
                [rank_correlation(range(DECILES), row) for row in table], "layers"
            )
        for k in (0, DECILES - 1):
            numbers[f"signed change of the loss by {by}, decile {k + 1}, nats"] = mean_of(
                [row[k] for row in signed], "stretches of text"
            )
    return Measured(numbers=numbers, scale=scale, pictures=(_picture(tables),))


def _picture(tables: dict[str, dict[str, list[list[float]]]]) -> Picture:
    labels = {
        "loss": ("loss", "mean |Δ loss|, nats"),
        "output": ("attention output", "mean relative change"),
        "distance": ("sparsity", "mean |ζ - mean ζ|"),
        "rate": ("output a unit of ζ", "Δ output / Δ ζ"),
    }
    panels = []
    for what, (title, label) in labels.items():
        series = []
        for by in BY:
            found = [mean_of(column) for column in zip(*tables[by][what], strict=True)]
            series.append(
                Series(
                    name="varentropy V" if by == "varentropy" else "susceptibility S V - κ₃/2",
                    x=floats(range(1, DECILES + 1)),
                    y=floats(e.value for e in found),
                    low=floats(e.low for e in found),
                    high=floats(e.high for e in found),
                )
            )
        panels.append(
            Panel(title=title, x_label="decile of the rows", y_label=label, series=tuple(series))
        )
    return Picture(
        name="deciles",
        caption="What freezing the sparsity at the head's mean changes, for rows of one decile of "
        "their varentropy (or susceptibility), SmolLM2-135M.",
        panels=tuple(panels),
    )


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""

    def grows(by: str) -> tuple[bool, bool]:
        """Whether the changes grow with the decile, and whether the lowest is small."""
        labels = [f"change of the {what} by {by}" for what in ("loss", "output")]
        rising = all(numbers[f"{x}, rank correlation with the decile"].low > 0 for x in labels)
        small = all(numbers[f"{x}, lowest over highest decile"].high < FEWER for x in labels)
        return rising, small

    def said(by: str) -> str:
        parts = []
        for what in ("loss", "output"):
            label = f"change of the {what} by {by}"
            rank = numbers[f"{label}, rank correlation with the decile"]
            ratio = numbers[f"{label}, lowest over highest decile"]
            parts.append(
                f"{what}: rank correlation {rank.value:.2f} [{rank.low:.2f}, {rank.high:.2f}], "
                f"lowest over highest decile {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
            )
        return f"by {by}, {'; '.join(parts)}"

    rate = numbers["output a unit of ζ by varentropy, rank correlation with the decile"]
    why = (
        f"{said('varentropy').capitalize()}. {said('susceptibility').capitalize()}. A unit of ζ "
        f"changes the output with a rank correlation of {rate.value:.2f} [{rate.low:.2f}, "
        f"{rate.high:.2f}] with the decile of V."
    )
    if all(grows("varentropy")):
        return "holds", why
    if grows("varentropy")[0] or all(grows("susceptibility")):
        return "holds with a correction", why
    return "does not hold", why


RULE = (
    "Holds if what freezing changes (mean absolute change of the loss, and relative change of the "
    "output) has a positive rank correlation with the decile of the varentropy, and the lowest "
    "decile changes less than a third of what the highest does. With a correction if only the rank "
    "correlation is positive, or if both are true of deciles of the susceptibility S V - kappa_3/2 "
    "instead. Otherwise it does not hold. Ends of the intervals throughout."
)

CLAIM = Claim(
    id="A2",
    statement="Rows of low varentropy do as well with a fixed sparsity; rows of high varentropy "
    "need a dynamic one",
    source="AES note",
    how="The sparsity of the rows of one decile is frozen at the head's mean, in a pretrained "
    "model with adaptive sparsity: change of the loss and of the attention output.",
    rule=RULE,
    paper="Stated in words.",
    measure=measure,
    judge=judge,
)
