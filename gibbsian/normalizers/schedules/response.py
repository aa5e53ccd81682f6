r"""The sparsity that removes a set number of nats from the entropy of a row.

At $\zeta = 0$ the entropy falls at the rate of its susceptibility, $\chi = S V - \kappa_3/2 \ge 0$,
and the rate itself grows like $e^{2 S \zeta}$: exactly so for nearly uniform rows, where the
straight line is wrong by orders of magnitude. Together,

$$S - S_\zeta \approx \chi\, \frac{e^{2 S \zeta} - 1}{2 S}.$$

Derivation and how far it holds: docs/derivations/schedules.md#response.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import PerRow
from gibbsian.numerics.deformed import deformed_log_of_exp, log_of_deformed_exp
from gibbsian.statistics import GibbsStatistics


def entropy_response(statistics: GibbsStatistics, zeta: float | Tensor) -> PerRow:
    r"""Nats that a sparsity is predicted to remove, $\chi (e^{2 S \zeta} - 1)/(2 S)$.

    Args:
        statistics: of the rows.
        zeta: in [0, 1]; a number, or a tensor that broadcasts to the rows.

    Returns:
        The prediction, >= 0 but for rounding; 0 for uniform rows and rows of one state or none.

    Notes:
        First order in zeta is exact; of the other orders, what nearly uniform rows have. It does
        not know that no more than S can be removed.

    References:
        docs/derivations/schedules.md#response.
    """
    return statistics.susceptibility * _gain(statistics.entropy, zeta)


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    r"""$\zeta = \min(\log(1 + 2 S b/\chi)/(2 S),\ \zeta_{\max})$: b nats off each row.

    It inverts `entropy_response`; for a small budget it is $b/\chi$, linear response. Rows that
    answer to sparsity get little of it. Rows that do not (uniform or collapsed, one state or none)
    get `zeta_max`, which changes little in them.

    Raises:
        ArgumentError: `budget` not a finite number > 0, or `zeta_max` outside (0, 1].

    Notes:
        $\chi$ is never negative but by rounding, and that counts as 0. Rows at `zeta_max` give no
        gradient; the others have $\chi$ bounded away from 0, so that gradients stay finite.

    References:
        docs/derivations/schedules.md#response.
    """

    name: ClassVar[str] = "response"

    budget: float
    """Entropy to remove from each row, nats, > 0."""
    zeta_max: float = 1.0
    """Largest sparsity, in (0, 1]."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0.0 < self.budget < float("inf"):
            raise ArgumentError(
                f"`budget` must be a finite number > 0 (nats), got {self.budget}. "
                "For no sparsity use `Constant(zeta=0.0)`."
            )
        if not 0.0 < self.zeta_max <= 1.0:
            raise ArgumentError(
                f"`zeta_max` must lie in (0, 1], got {self.zeta_max}. "
                "For no sparsity use `Constant(zeta=0.0)`."
            )

    def __call__(self, statistics: GibbsStatistics) -> PerRow:
        """Sparsity of each row, in (0, zeta_max]."""
        entropy, susceptibility = statistics.entropy, statistics.susceptibility
        # saturated rows leave before the division; a NaN is not saturated, and stays
        saturated = susceptibility * _gain(entropy, self.zeta_max) <= self.budget
        entropy = torch.where(saturated, 1.0, entropy)
        needed = self.budget / torch.where(saturated, 1.0, susceptibility)
        zeta = log_of_deformed_exp(needed, 2 * entropy).clamp(max=self.zeta_max)
        return torch.where(saturated, self.zeta_max, zeta)


def _gain(entropy: Tensor, zeta: float | Tensor) -> Tensor:
    r"""$(e^{2 S \zeta} - 1)/(2 S)$, $\zeta$ itself at S = 0."""
    sparsity = zeta.to(entropy) if isinstance(zeta, Tensor) else entropy.new_tensor(zeta)
    return deformed_log_of_exp(sparsity, 2 * entropy)
