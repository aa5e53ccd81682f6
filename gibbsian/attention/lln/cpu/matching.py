"""`matched_scales` in one step, where nothing is differentiated."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.lln.matching import VARIANCE_FLOOR, MatchingFit, matching_fit
from gibbsian.numerics.cpu.jit import kernel

_FLOOR = np.float32(VARIANCE_FLOOR)
_fit = functools.cache(matching_fit)


@kernel
def _match(
    query_variances: Any,
    key_variances: Any,
    factor: float,
    slope: float,
    intercept: float,
    scales: Any,
) -> None:
    for i in range(scales.shape[1]):
        query = factor * query_variances[i]
        query = _FLOOR if query < _FLOOR else query
        key = _FLOOR if key_variances[i] < _FLOOR else key_variances[i]
        half = (query * key - intercept) / (slope + slope)
        scales[0, i] = np.sqrt(half / query)
        scales[1, i] = np.sqrt(half / key)


def match_at_once(
    query_variance: Tensor, key_variance: Tensor, query_factor: float, head_dim: int
) -> tuple[Tensor, Tensor]:
    """`matched_scales` of float32 variances of one shape, those of the queries times a factor^2.

    A dozen operators on a few numbers each take longer than to read the queries and keys.
    """
    fit: MatchingFit = _fit(head_dim)
    scales = torch.empty((2, *query_variance.shape), dtype=torch.float32, device="cpu")
    _match(
        query_variance.detach().reshape(-1).numpy(),
        key_variance.detach().reshape(-1).numpy(),
        np.float32(query_factor**2),
        np.float32(fit.slope),
        np.float32(fit.intercept),
        scales.view(2, -1).numpy(),
    )
    query_scale, key_scale = scales
    return query_scale, key_scale
