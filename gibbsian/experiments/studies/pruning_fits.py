"""Exponents and means with confidence intervals."""

from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

_RESAMPLES = 1000
_LEVELS = (0.025, 0.975)


def exponent(
    sizes: Num[Tensor, "sizes"], counts: Float[Tensor, "heads sizes"], seed: int = 0
) -> dict[str, Any]:
    """Slope of log mean count against log size.

    The mean is over heads (or seeds), which are resampled with replacement for the 95 % interval.

    Returns:
        `exponent`, its `interval`, and `last`: the exponent between the two largest sizes.
    """
    logs = sizes.double().log()

    def slope(of_heads: Tensor) -> Tensor:
        means = of_heads.mean(dim=-2).clamp_min(1e-9).log()
        centred = logs - logs.mean()
        slopes: Tensor = (means * centred).sum(dim=-1) / centred.square().sum()
        return slopes

    counts = counts.double()
    chosen = _resampled(len(counts), seed)
    last = counts.mean(dim=0)[-2:].clamp_min(1e-9).log().diff() / logs[-2:].diff()
    return {
        "exponent": round(slope(counts).item(), 3),
        "interval": _interval(slope(counts[chosen])),
        "last": round(last.item(), 3),
    }


def mean(values: Float[Tensor, "heads"], seed: int = 0) -> dict[str, Any]:
    """Mean over heads with its 95 % interval, and the heads' deciles."""
    values = values.double()
    chosen = _resampled(len(values), seed)
    deciles = values.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    return {
        "mean": _short(values.mean().item()),
        "interval": _interval(values[chosen].mean(dim=1)),
        "deciles": [_short(value) for value in deciles.tolist()],
    }


def power(
    cause: Float[Tensor, "heads rows"], effect: Float[Tensor, "heads rows"], seed: int = 0
) -> dict[str, Any]:
    """Exponent of an effect in a cause, row by row, and the rank correlation; heads resampled."""
    x, y = cause.double().clamp_min(1e-3).log(), effect.double().clamp_min(1.0).log()
    rank_x, rank_y = (_ranks(values) for values in (x, y))
    chosen = _resampled(len(x), seed)
    result: dict[str, Any] = {}
    for name, (fit, a, b) in {
        "exponent": (_regression, x, y),
        "rank_correlation": (_correlation, rank_x, rank_y),
    }.items():
        result[name] = round(fit(a.reshape(1, -1), b.reshape(1, -1)).item(), 3)
        result[f"{name}_interval"] = _interval(fit(a[chosen].flatten(1), b[chosen].flatten(1)))
    return result


def _regression(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    slopes: Tensor = (x * y).sum(dim=1) / x.square().sum(dim=1).clamp_min(1e-12)
    return slopes


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    return _regression(x, y) * (x.std(dim=1) / y.std(dim=1).clamp_min(1e-12))


def _ranks(values: Tensor) -> Tensor:
    """Ranks with ties averaged."""
    _, inverse, sizes = values.flatten().unique(return_inverse=True, return_counts=True)
    ranks = (sizes.cumsum(dim=0) - (sizes - 1) / 2).double()[inverse]
    shaped: Tensor = ranks.view(values.shape)
    return shaped


def _resampled(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(count, (_RESAMPLES, count), generator=generator)


def _interval(values: Tensor) -> list[float]:
    levels = torch.tensor(_LEVELS, dtype=torch.float64)
    return [_short(value) for value in values.quantile(levels).tolist()]


def _short(value: float) -> float:
    return float(f"{value:.4g}")
