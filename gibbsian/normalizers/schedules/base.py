r"""What a schedule is: a map from the statistics of a row to its sparsity $\zeta$."""

from typing import Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import PerRow
from gibbsian.statistics import GibbsStatistics

Direction: TypeAlias = Literal["concentrate_low", "concentrate_high"]
"""Which rows a schedule makes sparse: those of low entropy, or those of high entropy."""


@runtime_checkable
class Schedule(Protocol):
    r"""Any callable `statistics -> zeta`: a function, a frozen dataclass, an `nn.Module`.

    It gets the statistics of every row, each a tensor shaped `*batch` (rows of attention:
    (batch, heads, queries); rows of logits: (batch,)), and returns one $\zeta \in [0, 1]$ a row.
    It must not change its argument. A schedule with a method `for_heads(num_heads)` is asked for a
    copy with parameters for that many heads when a model turns out to have them.
    """

    def __call__(self, statistics: GibbsStatistics, /) -> PerRow:
        """Sparsity of each row, in [0, 1], shaped like `statistics.entropy`."""
        ...


def check_unit(name: str, value: float) -> None:
    """Raises `ArgumentError` unless 0 <= value <= 1."""
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(f"`{name}` must lie in [0, 1], got {value}. Clamp it to that range.")


def check_edges(low: float, high: float) -> None:
    """Raises `ArgumentError` unless 0 <= low < high <= 1."""
    if not 0.0 <= low < high <= 1.0:
        raise ArgumentError(
            f"`low` and `high` must satisfy 0 <= low < high <= 1, got low={low}, high={high}. "
            "They are normalised entropies S / log n, not nats."
        )


def check_direction(direction: str) -> None:
    """Raises `ArgumentError` for an unknown direction."""
    if direction not in ("concentrate_low", "concentrate_high"):
        raise ArgumentError(
            f"`direction` must be 'concentrate_low' or 'concentrate_high', got {direction!r}. "
            "'concentrate_low' makes rows of low entropy sparse."
        )


def per_head(values: Tensor, num_heads: int | None, rows: Tensor) -> Tensor:
    """Values of a schedule in a shape that broadcasts against the rows, in the rows' dtype.

    Args:
        values: (num_heads,), or (1,) where `num_heads` is None.
        num_heads: None = shared by all rows.
        rows: (..., heads, queries), or any shape where `num_heads` is None.

    Returns:
        (num_heads, 1), or ().

    Raises:
        ArgumentError: the rows have not that many heads.
    """
    values = values.to(rows.dtype)
    if num_heads is None:
        return values.reshape(())
    if rows.dim() < 2 or rows.shape[-2] != num_heads:
        raise ArgumentError(
            f"`statistics` must be shaped (..., heads={num_heads}, queries) for a schedule of "
            f"{num_heads} heads, got {tuple(rows.shape)}. One value shared by all rows fits any "
            "shape: `num_heads=None`."
        )
    return values.unsqueeze(-1)
