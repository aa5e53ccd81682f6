r"""Varentropy moves the two levels between which a ramp runs.

$$g(V) = \frac{V}{V + V_0}, \qquad
  \text{lower} = \zeta_{\max} \lambda_{low}\, g(V), \qquad
  \text{upper} = \zeta_{\max} (1 - \lambda_{high}\, g(V)).$$
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import PerRow
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True)
class VarentropyBounds:
    r"""Levels of a ramp that depend on the row's varentropy.

    V -> 0 gives exactly 0 and `zeta_max`. The default raises the lower level alone: of two rows
    with the same entropy, the one of higher varentropy is the sparser.

    Raises:
        ArgumentError: `varentropy_scale` not > 0, a negative lambda, or a sum above 1 (the levels
            would cross).
    """

    varentropy_scale: float = 1.0
    r"""$V_0 > 0$, nats squared: the varentropy at which half of the effect is reached."""
    lambda_low: float = 0.5
    r"""$\lambda_{low} \ge 0$: how far a large V raises the lower level, as a part of `zeta_max`."""
    lambda_high: float = 0.0
    r"""$\lambda_{high} \ge 0$: how far a large V lowers the upper level, likewise."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 < self.varentropy_scale < float("inf"):
            raise ArgumentError(
                "`varentropy_scale` must be a finite number > 0 (nats squared), got "
                f"{self.varentropy_scale}. For no effect of the varentropy use `bounds=None`."
            )
        if not (self.lambda_low >= 0 and self.lambda_high >= 0):
            raise ArgumentError(
                f"`lambda_low` and `lambda_high` must be >= 0, got {self.lambda_low} and "
                f"{self.lambda_high}. 0 leaves a level where it is."
            )
        if not self.lambda_low + self.lambda_high <= 1:
            raise ArgumentError(
                f"`lambda_low` + `lambda_high` must be <= 1, got {self.lambda_low} + "
                f"{self.lambda_high}. The levels would cross: lower one of them."
            )

    def interval(self, varentropy: Tensor, zeta_max: float | Tensor) -> tuple[Tensor, Tensor]:
        """Levels `(lower, upper)` in [0, zeta_max], shaped like the varentropy."""
        return levels(
            varentropy, zeta_max, self.varentropy_scale, self.lambda_low, self.lambda_high
        )


def levels(
    varentropy: Tensor,
    zeta_max: float | Tensor,
    varentropy_scale: float | Tensor,
    lambda_low: float | Tensor,
    lambda_high: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """The module's equation, for numbers and for tensors that broadcast to the varentropy."""
    effect = varentropy / (varentropy + varentropy_scale)
    return zeta_max * (lambda_low * effect), zeta_max * (1 - lambda_high * effect)


def sparsity_between(
    statistics: GibbsStatistics,
    fraction: Tensor,
    zeta_max: float | Tensor,
    interval: tuple[Tensor, Tensor] | None,
) -> PerRow:
    r"""Sparsity a given fraction of the way from the lower level to the upper one.

    Args:
        statistics: of the rows.
        fraction: in [0, 1], one a row.
        zeta_max: the sparsity of rows of one state or none, whose probabilities do not depend on
            it; broadcastable to the rows.
        interval: the levels `(lower, upper)`; None = 0 and `zeta_max`.
    """
    # lerp is exact at both ends: zeta cannot leave [0, zeta_max] by a rounding
    zeta = zeta_max * fraction if interval is None else torch.lerp(*interval, fraction)
    return torch.where(statistics.num_states > 1, zeta, zeta_max)
