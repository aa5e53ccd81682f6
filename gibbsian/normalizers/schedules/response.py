r"""The sparsity that removes a set number of nats, by linear response.

At $\zeta = 0$ the entropy of a row falls at the rate of its susceptibility,
$-dS_\zeta/d\zeta = \chi = S V - \kappa_3/2$. To first order, then, $\zeta = b/\chi$ removes b nats.
"""

from dataclasses import dataclass
from typing import ClassVar

from gibbsian._errors import ArgumentError
from gibbsian._typing import PerRow
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    r"""$\zeta = \min(b/\chi, \zeta_{\max})$: equal nats removed from every row that has them.

    Rows that answer to sparsity get little of it, rows that do not get `zeta_max`, which changes
    nothing in them: uniform rows, collapsed rows, rows of one state or none.

    Raises:
        ArgumentError: `budget` not a finite number > 0, or `zeta_max` outside (0, 1].

    Notes:
        $\chi = -\frac{1}{2}\mathrm{Cov}(\log p, \log^2 p) \ge 0$ always, 0 iff p is uniform on its
        support; a negative value is a rounding of 0. The denominator is never below
        `budget / zeta_max`, so that no gradient exceeds $\zeta_{\max}^2/b$ for a unit change of
        $\chi$. Where $b/\chi$ is not small the entropy removed differs from the budget.

    References:
        Derivation: docs/derivations/schedules.md#response.
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
        # the floor is where the quotient reaches zeta_max: one formula, continuous, never / 0
        answer = statistics.susceptibility.clamp(min=self.budget / self.zeta_max)
        return (self.budget / answer).clamp(max=self.zeta_max)
