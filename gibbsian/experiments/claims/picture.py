"""What a claim wants drawn: curves and points as plain numbers, no drawing library."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, SupportsFloat

import torch
from torch import Tensor

LEVELS = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
"""Of the quantiles in a QQ plot."""
Scale = Literal["linear", "log"]
Style = Literal["line", "dashed", "points", "steps"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One curve or cloud."""

    name: str
    """Series of one name have one colour and one entry in the legend."""
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Style = "line"
    low: tuple[float, ...] = ()
    """Lower ends of the intervals; empty = none."""
    high: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    x_ticks: tuple[str, ...] = ()
    """Words at 0, 1, ... of the x axis; empty = numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A matrix of numbers with intervals, one shade each."""

    title: str
    x_label: str
    y_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    """[row][column], from 0 (or less) to 1."""
    low: tuple[tuple[float, ...], ...]
    """Lower ends of the intervals."""
    high: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Panels side by side."""

    name: str
    """Ends the file's name."""
    caption: str
    """What is seen; names the source's figure where there is one."""
    panels: tuple[Panel | Grid, ...]


def floats(values: Tensor | Iterable[SupportsFloat], digits: int = 5) -> tuple[float, ...]:
    """Values as numbers of so many significant digits."""
    return tuple(float(f"{float(value):.{digits}g}") for value in values)
