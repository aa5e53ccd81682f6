"""The final table of a comparison, as text; the terminal and the page lay it out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
ABSENT = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of the table."""

    title: str
    """Heading, short."""
    meaning: str
    """One sentence with the unit."""
    text: Callable[[Row], str]
    """Cell of a row of `results["summary"]`."""
    is_cost: bool = False
    """What the attention costs, not what it does."""


def _number(name: str, form: str) -> Callable[[Row], str]:
    return lambda row: ABSENT if row[name] is None else format(row[name], form)


def _loss(row: Row) -> str:
    mean, spread = row["validation_bits_per_byte"], row["validation_bits_per_byte_spread"]
    if mean is None:
        return "not finite"
    return f"{mean:.3f}" + ("" if spread is None else f" ± {spread:.3f}")


def _milliseconds(row: Row) -> str:
    return ABSENT if row["step_seconds"] is None else f"{1e3 * row['step_seconds']:.0f} ms"


def _megabytes(row: Row) -> str:
    return f"{row['peak_memory_bytes'] / 1e6:.0f} MB"


def _percent(row: Row) -> str:
    value = row["support_fraction"]
    return ABSENT if value is None else f"{100 * value:.1f} %"


COLUMNS = (
    Column(title="attention", meaning="name and parameters", text=lambda row: row["attention"]),
    Column(
        title="bits/byte",
        meaning="validation loss; ± is the standard deviation over seeds",
        text=_loss,
    ),
    Column(title="S", meaning="mean entropy of the rows, nats", text=_number("entropy", ".2f")),
    Column(
        title="V", meaning="mean varentropy of the rows, nats²", text=_number("varentropy", ".2f")
    ),
    Column(title="ζ", meaning="mean sparsity of the rows", text=_number("zeta", ".3f")),
    Column(
        title="support",
        meaning="mean part of the visible keys that gets a weight > 0",
        text=_percent,
    ),
    Column(
        title="score prod.",
        meaning="products of head_dim length a token, over heads and layers, to score keys "
        "(linear attention: to update its state)",
        text=_number("score_products", ",.0f"),
        is_cost=True,
    ),
    Column(
        title="value prod.",
        meaning="products of head_dim length a token, over heads and layers, to mix values "
        "(linear attention: to read its state)",
        text=_number("value_products", ",.0f"),
        is_cost=True,
    ),
    Column(
        title="step", meaning="median time of a training step", text=_milliseconds, is_cost=True
    ),
    Column(
        title="memory",
        meaning="peak of the tensors alive in a training step",
        text=_megabytes,
        is_cost=True,
    ),
    Column(
        title="parameters",
        meaning="number of them",
        text=_number("parameters", ",.0f"),
        is_cost=True,
    ),
)


def table_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The cells, a list for each attention, in the order of `COLUMNS`."""
    return [[column.text(row) for column in COLUMNS] for row in results["summary"]]


def comparison_title(results: Mapping[str, Any]) -> str:
    """What is compared, on what, in one line."""
    config = results["config"]
    shape = f"{config['layers']} layers, width {config['width']}, {config['heads']} heads"
    names = " / ".join(row["attention"] for row in results["summary"])
    seeds = len(config["seeds"])
    return (
        f"{names}: {config['model']} of {shape}, context {config['context']}, "
        f"{config['steps']} steps of {config['batch']} windows, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )
