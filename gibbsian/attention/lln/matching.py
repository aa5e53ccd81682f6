r"""Moment matching: the scales at which LLN rows spread as softmax rows do.

Softmax scores of Gaussian queries and keys have variance $\sigma_q^2 \sigma_k^2$, and that is the
variance of $\log P$. LLN's depends on $\tilde\sigma^2 = \alpha^2 \sigma_q^2 + \beta^2 \sigma_k^2$
(in code $\alpha$ is `query_scale` and $\beta$ is `key_scale`) in one of three ways. Equation
numbers are those of Nahshan, Kampeas and Haleva, arXiv 2311.13541v4; derivations:
docs/derivations/lln.md.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError

REFERENCE_KEYS = 1024
"""Number of keys for which attention is matched, whatever the length of its input: a scale that
depended on the length would let later tokens and padding change earlier outputs."""

VARIANCE_FLOOR = 1e-6
"""Smallest variance of queries or keys that is matched; below it the scales stop growing."""

# Read at import: torch.compile traces through what is looked up, not through a file's opening.
_TABLE: dict[str, Any] = json.loads(
    files("gibbsian.attention.lln").joinpath("matching_table.json").read_text(encoding="utf-8")
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchingFit:
    r"""The line $\mathrm{Var}(\log P^{LLN}) = a \tilde\sigma^2 + b$ of eq. (34)."""

    slope: float
    """a > 0."""
    intercept: float
    """b < 0: below a variance of zero the line has left the broad range."""


def narrow_variance(sigma_squared: Tensor, head_dim: int) -> Tensor:
    r"""$\mathrm{Var}(\log \sum_f e^{x_f}) \to \tilde\sigma^2/d$ for $\tilde\sigma \ll 1$ (A.6)."""
    return sigma_squared / head_dim


def fenton_variance(sigma_squared: Tensor, head_dim: int | Tensor) -> Tensor:
    r"""Moderate range, eq. (28): the variance of the log of d log-normals, matched by Fenton.

    $$\log\Bigl(1 + \frac{e^{\tilde\sigma^2} - 1}{d}\Bigr)$$
    """
    # above 1 with e^sigma^2 taken out: it may be larger than any number
    small, large = sigma_squared.clamp_max(1.0), sigma_squared.clamp_min(1.0)
    rest = ((head_dim - 1) * (-large).exp()).log1p()
    return torch.where(
        sigma_squared > 1,
        large - _log(head_dim) + rest,
        (small.expm1() / head_dim).log1p(),
    )


def fenton_mean(sigma_squared: Tensor, head_dim: int | Tensor) -> Tensor:
    r"""Moderate range, eq. (29): the mean of the log, $\log d + (\tilde\sigma^2-\sigma_F^2)/2$."""
    return _log(head_dim) + (sigma_squared - fenton_variance(sigma_squared, head_dim)) / 2


def _log(number: int | Tensor) -> float | Tensor:
    return number.log() if isinstance(number, Tensor) else math.log(number)


def broad_variance(sigma_squared: Tensor, fit: MatchingFit) -> Tensor:
    r"""Broad range, eq. (34): $a \tilde\sigma^2 + b$, fitted where it lies in [0.1, 1.25]."""
    return fit.slope * sigma_squared + fit.intercept


def matching_fit(head_dim: int, num_keys: int = REFERENCE_KEYS) -> MatchingFit:
    r"""The line of eq. (34) for a head dimension and a number of keys, from the shipped table.

    The table (head dimensions 4 to 256, 64 to 4096 keys) is made by
    `python -m gibbsian.attention.lln.fit_matching`. Between its points a and b are linear in
    $\log d$ and $\log N$; outside they are those of the nearest edge.

    Raises:
        ArgumentError: head_dim or num_keys < 1.
    """
    for name, size in (("head_dim", head_dim), ("num_keys", num_keys)):
        if size < 1:
            raise ArgumentError(f"`{name}` must be >= 1, got {size}. Pass the size of the heads.")
    row, row_weight = _between(_TABLE["head_dims"], head_dim)
    column, column_weight = _between(_TABLE["num_keys"], num_keys)

    def interpolated(values: list[list[float]]) -> float:
        low, high = (
            (1 - column_weight) * line[column] + column_weight * line[column + 1]
            for line in values[row : row + 2]
        )
        return (1 - row_weight) * low + row_weight * high

    return MatchingFit(
        slope=interpolated(_TABLE["slope"]), intercept=interpolated(_TABLE["intercept"])
    )


def _between(points: Sequence[int], size: int) -> tuple[int, float]:
    """Index of the interval of `points` that holds `size`, and its logarithmic position there."""
    clamped = min(max(size, points[0]), points[-1])
    index = max(i for i, point in enumerate(points[:-1]) if point <= clamped)
    low, high = points[index : index + 2]
    return index, math.log(clamped / low) / math.log(high / low)


def matched_scales(
    query_variance: Tensor,
    key_variance: Tensor,
    *,
    head_dim: int,
    num_keys: int = REFERENCE_KEYS,
) -> tuple[Tensor, Tensor]:
    r"""`(query_scale, key_scale)` at which $\mathrm{Var}(\log P)$ is that of softmax, eq. (10).

    $$\tilde\sigma = \sqrt{\frac{\sigma_q^2 \sigma_k^2 - b}{a}}, \qquad
    \alpha = \frac{\tilde\sigma}{\sqrt2\,\sigma_q}, \qquad
    \beta = \frac{\tilde\sigma}{\sqrt2\,\sigma_k}$$

    Args:
        query_variance: $\sigma_q^2 \ge 0$ of the elements of the queries, any shape. For a score
            scale other than $1/\sqrt{d}$, that of the queries times scale sqrt(d).
        key_variance: $\sigma_k^2 \ge 0$ of the elements of the keys, broadcastable with it.
        head_dim: d.
        num_keys: N.

    Notes:
        Differentiable. The line is the broad range's: however small the variances, sigma~ stays
        above $\sqrt{-b/a}$. Unit variances give scales of about 2, where the paper's stay in
        training (2 to 2.2; A.8.4).
    """
    fit = matching_fit(head_dim, num_keys)
    query_variance = query_variance.clamp_min(VARIANCE_FLOOR)
    key_variance = key_variance.clamp_min(VARIANCE_FLOOR)
    half = (query_variance * key_variance - fit.intercept) / (2 * fit.slope)
    return (half / query_variance).sqrt(), (half / key_variance).sqrt()


def softmax_temperature(
    query_variance: Tensor, key_variance: Tensor, cross_covariance: Tensor | float = 0.0
) -> Tensor:
    r"""$\tau_{sm} = (\sigma_q^2 \sigma_k^2 + C_{cross})^{-1/2}$, eq. (5)."""
    return (query_variance * key_variance + cross_covariance).rsqrt()


def lln_temperature(
    query_scale: Tensor,
    key_scale: Tensor,
    query_variance: Tensor,
    key_variance: Tensor,
    *,
    head_dim: int,
    num_keys: int = REFERENCE_KEYS,
) -> Tensor:
    r"""$\tau_{lln} = (a (\alpha^2 \sigma_q^2 + \beta^2 \sigma_k^2) + b)^{-1/2}$, eq. (11).

    NaN outside the broad range, where the line is below 0.
    """
    sigma_squared = query_scale.square() * query_variance + key_scale.square() * key_variance
    return broad_variance(sigma_squared, matching_fit(head_dim, num_keys)).rsqrt()
