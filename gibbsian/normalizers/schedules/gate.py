"""Freezes the sparsity of rows in which sparsity would change nothing."""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from gibbsian._errors import ArgumentError
from gibbsian._typing import PerRow
from gibbsian.normalizers.schedules.base import Schedule, per_head
from gibbsian.normalizers.schedules.constant import Constant
from gibbsian.normalizers.schedules.response import entropy_response
from gibbsian.statistics import GibbsStatistics

GateMode: TypeAlias = Literal["auto", "fixed", "dynamic"]
"""Which rows a gate freezes: those that do not answer, all, or none."""


class Gated(nn.Module):
    r"""A schedule for the rows that answer to sparsity, a constant for the others.

    A row is frozen where the entropy that the largest sparsity is predicted to remove
    (`entropy_response`: $|S V - \kappa_3/2|\,\zeta_{\max}$ to first order) is under the tolerance.
    Its $\zeta$ jumps to the constant, but its probabilities hardly move.

    Args:
        schedule: for the rows that answer. Its `zeta_max` enters the rule; a schedule without one
            counts as 1, which freezes the fewest rows.
        constant: for the frozen rows: a number, one for each head, or a schedule
            (`LearnableConstant()` for learned ones). The rule speaks of sparsities up to
            `zeta_max`: the constant should be one of them.
        tolerance: nats, >= 0; 0 freezes no row.
        mode: "auto" is the rule above; "fixed" freezes all rows, "dynamic" none.

    Raises:
        ArgumentError: `schedule` not callable, `constant` outside [0, 1], a negative or infinite
            `tolerance`, an unknown `mode`.

    Notes:
        Which rows are frozen has no gradient. A frozen row gives gradients to the constant, a
        dynamic one to the schedule.
    """

    name = "gated"

    def __init__(
        self,
        *,
        schedule: Schedule,
        constant: float | tuple[float, ...] | Schedule,
        tolerance: float = 0.01,
        mode: GateMode = "auto",
    ) -> None:
        super().__init__()
        if not callable(schedule):
            raise ArgumentError(
                f"`schedule` must be a callable of the statistics, got {schedule!r}. "
                "For a number use `Constant(zeta=...)`."
            )
        if not 0.0 <= tolerance < float("inf"):
            raise ArgumentError(
                f"`tolerance` must be a finite number >= 0 (nats), got {tolerance}. "
                "To freeze all rows use mode='fixed'."
            )
        if mode not in ("auto", "fixed", "dynamic"):
            raise ArgumentError(
                f"`mode` must be 'auto', 'fixed' or 'dynamic', got {mode!r}. "
                "'auto' freezes the rows that do not answer to sparsity."
            )
        self.schedule = schedule
        self.constant: Schedule = constant if callable(constant) else Constant(zeta=constant)
        self.tolerance = tolerance
        self.mode: GateMode = mode

    def forward(self, statistics: GibbsStatistics) -> PerRow:
        """Sparsity of each row, from the constant where it is frozen, else from the schedule."""
        if self.mode == "fixed":
            return self.constant(statistics)
        if self.mode == "dynamic":
            return self.schedule(statistics)
        return torch.where(
            self.frozen(statistics), self.constant(statistics), self.schedule(statistics)
        )

    def frozen(self, statistics: GibbsStatistics) -> Bool[Tensor, "*batch"]:
        """True for the rows that have the constant."""
        rows = statistics.entropy
        if self.mode != "auto":
            return torch.full_like(rows, self.mode == "fixed", dtype=torch.bool)
        zeta_max = getattr(self.schedule, "zeta_max", 1.0)
        if isinstance(zeta_max, Tensor):
            heads = None if zeta_max.dim() == 0 else zeta_max.shape[0]
            zeta_max = per_head(zeta_max.detach(), heads, rows)
        return entropy_response(statistics.detach(), zeta_max).abs() < self.tolerance

    def for_heads(self, num_heads: int) -> "Gated":
        """A copy with the parameters of both parts, where they have any, for `num_heads` heads."""
        return Gated(
            schedule=_for_heads(self.schedule, num_heads),
            constant=_for_heads(self.constant, num_heads),
            tolerance=self.tolerance,
            mode=self.mode,
        ).train(self.training)

    def extra_repr(self) -> str:
        """Shown by `print(module)`."""
        fixed = {
            part: schedule
            for part, schedule in (("schedule", self.schedule), ("constant", self.constant))
            if not isinstance(schedule, nn.Module)
        }
        shown = {**fixed, "tolerance": self.tolerance, "mode": self.mode}
        return ", ".join(f"{key}={value!r}" for key, value in shown.items())


def _for_heads(schedule: Schedule, num_heads: int) -> Schedule:
    rebuild = getattr(schedule, "for_heads", None)
    rebuilt: Schedule = schedule if rebuild is None else rebuild(num_heads)
    return rebuilt
