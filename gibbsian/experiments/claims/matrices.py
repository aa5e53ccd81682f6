"""Attention matrices of Gaussian queries and keys, under the kernels that the claims compare."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.attention.lln import matched_scales

Kernel = Callable[[Tensor, Tensor], Tensor]
"""Queries and keys (n, head_dim) to rows that sum to 1 (n, n)."""


def gaussian_pair(
    generator: torch.Generator, count: int, head_dim: int, sigma: float
) -> tuple[Float[Tensor, "count head_dim"], Float[Tensor, "count head_dim"]]:
    r"""Queries and keys with $\sigma_q \sigma_k$ = sigma, float64."""
    pair = torch.randn(2, count, head_dim, generator=generator, dtype=torch.float64)
    query, key = pair * sigma**0.5
    return query, key


def softmax_matrix(query: Tensor, key: Tensor) -> Tensor:
    """Softmax attention."""
    weights: Tensor = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
    return weights


def lln_matrix(query: Tensor, key: Tensor, query_scale: float, key_scale: float) -> Tensor:
    """LLN attention (8), by its definition."""
    return _normalized((query_scale * query).exp() @ (key_scale * key).exp().mT)


def unmatched_lln(query: Tensor, key: Tensor) -> Tensor:
    """LLN with both scales 1."""
    return lln_matrix(query, key, 1.0, 1.0)


def matched_lln(query: Tensor, key: Tensor) -> Tensor:
    """LLN with scales matched to the moments of these queries and keys (10)."""
    alpha, beta = matched_scales(
        query.var(correction=0), key.var(correction=0), head_dim=query.shape[-1]
    )
    return lln_matrix(query, key, float(alpha), float(beta))


def quadratic(query: Tensor, key: Tensor) -> Tensor:
    """Squared scores."""
    return _normalized((query @ key.mT).square())


def relu(query: Tensor, key: Tensor) -> Tensor:
    """Positive parts of the scores."""
    return _normalized((query @ key.mT).relu())


def linear_quadratic(query: Tensor, key: Tensor) -> Tensor:
    """Feature map x^2 of queries and keys."""
    return _normalized(query.square() @ key.square().mT)


def linear_relu(query: Tensor, key: Tensor) -> Tensor:
    """Feature map max(x, 0) of queries and keys."""
    return _normalized(query.relu() @ key.relu().mT)


KERNELS: dict[str, Kernel] = {
    "softmax": softmax_matrix,
    "LLN, matched": matched_lln,
    "LLN, scales 1": unmatched_lln,
    "quadratic": quadratic,
    "ReLU": relu,
    "linear quadratic": linear_quadratic,
    "linear ReLU": linear_relu,
}


def _normalized(weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=-1, keepdim=True)


def mean_entropy(weights: Float[Tensor, "*batch rows states"]) -> Float[Tensor, "*batch"]:
    """Mean Shannon entropy of the rows, nats, eq. (7)."""
    entropy: Tensor = -torch.special.xlogy(weights, weights).sum(dim=-1).mean(dim=-1)
    return entropy


def sample_distance(a: Tensor, b: Tensor) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    a, b = a.flatten().sort().values, b.flatten().sort().values
    points = torch.cat([a, b])
    shares = [torch.searchsorted(x, points, right=True) / len(x) for x in (a, b)]
    return float((shares[0] - shares[1]).abs().max())


def histogram(sample: Tensor, bins: int = 60) -> tuple[Tensor, Tensor]:
    """Middles of the bins, and densities, between the 0.1 % and the 99.9 % quantile."""
    ordered = sample.flatten().double().sort().values
    low, high = ordered[int(0.001 * len(ordered))], ordered[int(0.999 * (len(ordered) - 1))]
    edges = torch.linspace(float(low), float(high), bins + 1, dtype=torch.float64)
    counts = torch.histogram(ordered, edges).hist
    return (edges[1:] + edges[:-1]) / 2, counts / (len(ordered) * edges.diff())
