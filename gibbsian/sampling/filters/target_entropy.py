r"""The temperature at which a row has a given entropy: $S(T) = S^*$.

S rises with T, $dS/d\log T = V$ and $dV/d\log T = -2 V - \kappa_3$, so Halley's method in $\log T$
needs nothing but the statistics of the row at the present T. It is safeguarded by a bracket: a step
that leaves it is replaced by bisection. Derivation: docs/derivations/sampling.md#target-entropy.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian._dispatch import runs_on_cpu_kernels
from gibbsian._errors import ArgumentError
from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column, in_rows
from gibbsian.sampling.filters.temperature import COLDEST
from gibbsian.statistics import row_statistics

_MAX_STEPS = 24
_TOLERANCE = 1e-4
"""Nats."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TargetEntropy(Filter):
    r"""Scores divided by the temperature at which the entropy of the row is $S^*$.

    Raises:
        ArgumentError: a negative or infinite entropy, or not 0 < coldest <= hottest.

    Notes:
        Reads the row about 4 times, at most 24; S is met to 1e-4 nats wherever the range allows it.
    """

    entropy: RowParameter
    r"""$S^* \ge 0$, nats."""
    coldest: float = 0.05
    """Smallest temperature: rows that would need a smaller one get this."""
    hottest: float = 20.0
    """Largest temperature, likewise."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("entropy", self.entropy, 0.0, math.inf, "It is in nats: 1 bit is 0.693.")
        check_temperatures(self.coldest, self.hottest)

    def _filtered(self, rows: Tensor) -> Tensor:
        return rows / self._solve(rows)

    @torch.no_grad()
    def temperature(self, logits: Tensor) -> Tensor:
        """The temperature of each row, (*batch) for logits (*batch, states)."""
        wide = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
        rows = wide.reshape(math.prod(logits.shape[:-1]), logits.shape[-1]).contiguous()
        return self._solve(rows).view(logits.shape[:-1])

    def _solve(self, rows: Tensor) -> Tensor:
        """(rows, 1)."""
        count = rows.shape[0]
        low_t, high_t = math.log(self.coldest), math.log(self.hottest)
        target = in_rows(column("entropy", self.entropy, rows), rows).reshape(-1).expand(count)
        if runs_on_cpu_kernels("auto", rows):
            # numba takes half a second to import: only where it is used
            from gibbsian.sampling.cpu.target_entropy import (  # noqa: PLC0415
                temperatures_of_rows,
            )

            return temperatures_of_rows(
                rows, target, low_t, high_t, _MAX_STEPS, _TOLERANCE
            ).unsqueeze(-1)
        low, high = rows.new_full((count,), low_t), rows.new_full((count,), high_t)
        log_t = torch.zeros_like(low).clamp(low, high)
        met_low = met_high = torch.zeros_like(low, dtype=torch.bool)
        going = ~met_low
        for _ in range(_MAX_STEPS):
            statistics = row_statistics(rows / log_t.exp().unsqueeze(-1))
            excess = statistics.entropy - target
            hot = excess > 0
            high, met_high = torch.where(hot, log_t, high), met_high | hot
            low, met_low = torch.where(hot, low, log_t), met_low | ~hot
            going = going & (excess.abs() > _TOLERANCE) & (low < high)
            # reading a flag stops an accelerator; there the steps left change nothing
            if rows.device.type == "cpu" and not bool(going.any()):
                break
            slope = statistics.varentropy
            bend = -2 * slope - statistics.third_cumulant
            halley = slope - excess * bend / (2 * slope)
            # far from V it corrects too much: there Newton's step
            usual = (halley > slope / 4) & (halley < slope * 4)
            guess = log_t - excess / torch.where(usual, halley, slope)
            middle = (low + high) / 2
            # an end of the range that was not looked at yet may be the answer itself
            above = torch.where(met_high, middle, high)
            below = torch.where(met_low, middle, low)
            outside = torch.where(guess >= high, above, below)
            inside = (guess > low) & (guess < high)
            log_t = torch.where(going, torch.where(inside, guess, outside), log_t)
        return log_t.exp().unsqueeze(-1)


def check_temperatures(coldest: float, hottest: float) -> None:
    """Raises `ArgumentError` unless 0 < coldest <= hottest, both finite."""
    if not COLDEST <= coldest <= hottest < math.inf:
        raise ArgumentError(
            f"`coldest` and `hottest` must satisfy {COLDEST:g} <= coldest <= hottest < inf, got "
            f"{coldest} and {hottest}. Equal ones fix the temperature."
        )
