"""An inspection on the terminal: a row a layer, and what stands out."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from gibbsian.reports.inspection.findings import find

_BAR = 4
_BLOCKS = " ▏▎▍▌▋▊▉█"

Format = Callable[[float], str]


def _decimals(number: float) -> str:
    return f"{number:.2f}"


def _keys(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


# Title, map, how its numbers are written, and the end of its bar (None: the largest layer's).
_COLUMNS: tuple[tuple[str, str, Format, float | None], ...] = (
    ("S/log n", "normalized_entropy", _decimals, 1.0),
    ("V", "varentropy", _decimals, None),
    ("sink", "sink_mass", _decimals, 1.0),
    ("tau", "temperature", _decimals, None),
    ("gap", "eigenvalue_gap", _decimals, 1.0),
    ("zeta", "zeta", _decimals, 1.0),
    ("support", "support_size", _keys, None),
)


def print_inspection(
    console: Console, inspection: Mapping[str, Any], baseline: Mapping[str, Any] | None
) -> None:
    """Print a table of the layers' means over rows and heads, and the findings of the page."""
    sizes = f"{inspection['layers']} layers, {inspection['heads']} heads"
    lengths = ", ".join(f"{i['name']} ({i['length']})" for i in inspection["inputs"])
    _print_line(console, f"{inspection['model']}: {sizes}; {lengths}", style="bold")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("layer", justify="right")
    columns = []
    for title, name, write, end in _COLUMNS:
        means = _layer_means(inspection["maps"][name])
        if all(mean is None for mean in means):
            continue
        table.add_column(title, no_wrap=True)
        columns.append(_cells(means, write, end))
    for layer in range(inspection["layers"]):
        table.add_row(str(layer), *(column[layer] for column in columns))
    if console.is_terminal:
        console.print(table)
    else:  # a pipe has no width
        Console(file=console.file, width=Console(width=10_000).measure(table).maximum).print(table)
    for finding in find(inspection, baseline):
        _print_line(console, f"{finding.title}: {finding.text}")


def _print_line(console: Console, text: str, **options: Any) -> None:
    """Print text that may come from files: no markup, and no control characters."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    console.print(shown, markup=False, highlight=False, soft_wrap=True, **options)


def _layer_means(values: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Mean over the heads of each layer; None where no head has a number."""
    return [
        statistics.fmean(present) if (present := [x for x in heads if x is not None]) else None
        for heads in values
    ]


def _cells(means: Sequence[float | None], write: Format, end: float | None) -> list[str]:
    """Number and bar of each layer, numbers of one width."""
    written = ["-" if mean is None else write(mean) for mean in means]
    width = max(map(len, written))
    full = end or max((mean for mean in means if mean is not None), default=0.0)
    return [
        f"{text:>{width}} {_bar(0.0 if mean is None or full <= 0 else mean / full)}"
        for text, mean in zip(written, means, strict=True)
    ]


def _bar(share: float) -> str:
    """A bar of a share in [0, 1], in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * _BAR * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_BLOCKS[rest] if rest else "")).ljust(_BAR)
