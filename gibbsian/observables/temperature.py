r"""The temperature at which an attention head works, from the moments of its queries and keys.

Scores of variance $\sigma_{sm}^2$ in a row are those of unit variance at $T = 1/\sigma_{sm}$.
Equation numbers: Nahshan, Kampeas and Haleva, arXiv 2311.13541v4.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask
from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.lln.matching import lln_temperature, matched_scales, softmax_temperature
from gibbsian.observables.present import present_positions


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeadTemperatures:
    """Moments and temperatures of every head, each (batch, heads); scores carry no unit."""

    query_variance: Float[Tensor, "batch heads"]
    r"""$\sigma_q^2$ of the elements, times $d\,\text{scale}^2$ (1 at the usual scale)."""
    key_variance: Float[Tensor, "batch heads"]
    r"""$\sigma_k^2$ of the elements."""
    cross_covariance: Float[Tensor, "batch heads"]
    r"""$C_{cross} = \mathrm{Cov}(q^2, k^2) - \mathrm{Cov}(q, k)^2$, times $d\,\text{scale}^2$."""
    score_variance: Float[Tensor, "batch heads"]
    r"""Variance of the scores within a row, mean over rows, that $\sigma_{sm}^2$ is a model of."""
    softmax: Float[Tensor, "batch heads"]
    r"""$\tau_{sm} = (\sigma_q^2 \sigma_k^2 + C_{cross})^{-1/2}$ (5); inf for constant scores."""
    lln: Float[Tensor, "batch heads"]
    r"""$\tau_{lln} = (a (\alpha^2 \sigma_q^2 + \beta^2 \sigma_k^2) + b)^{-1/2}$ (11); NaN outside
    the broad range, where the line is below 0."""


@torch.no_grad()
def head_temperatures(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    query_scale: float | Tensor | None = None,
    key_scale: float | Tensor | None = None,
) -> HeadTemperatures:
    r"""Temperatures of softmax and of LLN attention with these queries and keys.

    Moments are those of a query element $q_{if}$ and a key element $k_{jf}$ of the same channel f,
    over all pairs (i, j) of present positions; elements are centred by their head's mean, so that
    $\sigma_{sm}^2$ is a variance, never below 0.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        mask: True = may attend; what it hides from everybody does not count.
        is_causal: accepted for its siblings' sake: every position counts with or without.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.
        query_scale: LLN's alpha, a number or (batch, heads) broadcastable; None with `key_scale`:
            both matched to these moments, which makes $\tau_{lln} = 1/(\sigma_q \sigma_k)$,
            $\tau_{sm}$ but for the cross term.
        key_scale: LLN's beta.

    Returns:
        `HeadTemperatures` without a graph, in float32 or wider.

    Raises:
        ArgumentError: inputs that do not fit, or one of the two scales alone.

    Notes:
        O(positions head_dim^2) time, memory linear in the length.
    """
    if (query_scale is None) != (key_scale is None):
        raise ArgumentError(
            f"`query_scale` and `key_scale` must be given together, got {query_scale} and "
            f"{key_scale}. Give neither for moment matching."
        )
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        inputs = checked_inputs(
            query.detach(),
            key.detach(),
            key.detach(),
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )
        query_present, key_present = present_positions(inputs)
        head_dim = query.shape[-1]
        # as if at the usual scale: the scale is part of the queries
        factor = inputs.scale * math.sqrt(head_dim)
        queries = _Moments(inputs.query.to(wide) * factor, query_present)
        served = inputs.key.to(wide).repeat_interleave(inputs.group, dim=1)
        keys = _Moments(served, key_present)
        covariance = _over_channels(queries.mean, keys.mean)
        cross = _over_channels(queries.square, keys.square) - covariance.square()
        # the row's mean falls out: only the keys are centred
        second = queries.second_moments()
        within = (second * keys.covariances()).sum(dim=(-2, -1)) / head_dim
        if query_scale is None or key_scale is None:
            alpha, beta = matched_scales(queries.variance, keys.variance, head_dim=head_dim)
        else:
            alpha, beta = (torch.as_tensor(s).to(keys.variance) for s in (query_scale, key_scale))
        return HeadTemperatures(
            query_variance=queries.variance,
            key_variance=keys.variance,
            cross_covariance=cross,
            score_variance=within,
            softmax=softmax_temperature(queries.variance, keys.variance, cross),
            lln=lln_temperature(alpha, beta, queries.variance, keys.variance, head_dim=head_dim),
        )


class _Moments:
    """Moments of elements (batch, heads, positions, head_dim) over the present positions."""

    def __init__(self, elements: Tensor, present: Tensor) -> None:
        weight = present.to(elements).unsqueeze(-1)
        self._count = weight.sum(dim=-2).clamp_min(1.0)
        self._weight = weight
        self._offset = (weight * elements).sum(dim=-2) / self._count
        self._elements = elements
        overall = self._offset.mean(dim=-1, keepdim=True)
        self.mean = self._offset - overall
        """Of each channel, from the mean over all channels (batch, heads, head_dim)."""
        squares = (elements - overall.unsqueeze(-2)).square()
        self.square = (weight * squares).sum(dim=-2) / self._count
        """Mean square of each channel, from the same."""
        self.variance = self.square.mean(dim=-1)
        """Of all elements (batch, heads)."""

    def second_moments(self) -> Tensor:
        """(batch, heads, head_dim, head_dim), not centred."""
        elements = self._weight * self._elements
        return elements.mT @ self._elements / self._count.unsqueeze(-1)

    def covariances(self) -> Tensor:
        """Of the channels, (batch, heads, head_dim, head_dim)."""
        elements = self._weight * (self._elements - self._offset.unsqueeze(-2))
        return elements.mT @ elements / self._count.unsqueeze(-1)


def _over_channels(a: Tensor, b: Tensor) -> Tensor:
    """Covariance over the channels of two quantities (batch, heads, head_dim)."""
    return (a * b).mean(dim=-1) - a.mean(dim=-1) * b.mean(dim=-1)
