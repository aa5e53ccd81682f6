r"""How near the weights of a softmax head are to a log-normal distribution.

Proposition 3.1 of Nahshan, Kampeas and Haleva (arXiv 2311.13541v4): for Gaussian queries and keys
of moderate variance, $\log P$ is about normal with mean $-\ln N - \sigma_{sm}^2/2$ and variance
$\sigma_{sm}^2$. The log of a sum of log-normals in its three ranges (A.6) is in
`gibbsian.attention.lln.matching`. Derivation: docs/derivations/lognormal.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._typing import Mask
from gibbsian.attention.inputs import AttentionInputs, checked_inputs
from gibbsian.attention.lln.matching import fenton_mean
from gibbsian.numerics.masked import working_dtype
from gibbsian.observables.blocks import query_blocks, without_autocast
from gibbsian.observables.normality import BINS, NormalFit, add_counts, distance_from_counts
from gibbsian.observables.temperature import head_temperatures


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LogNormalFit(NormalFit):
    r"""Of the weights of every sample and head, (batch, heads): $\log P$ over the visible entries.

    In nats; no entry gives 0 everywhere.
    """

    predicted_mu: Float[Tensor, "batch heads"]
    r"""$-\langle \ln n \rangle - \sigma_{sm}^2/2$; n is the number of keys that an entry's row
    sees, N without a mask."""
    predicted_sigma: Float[Tensor, "batch heads"]
    r"""$\sigma_{sm} = (\sigma_q^2 \sigma_k^2 + C_{cross})^{1/2}$, of `head_temperatures`."""
    fenton_mu: Float[Tensor, "batch heads"]
    r"""`predicted_mu` with Fenton's mean of $\log Z$ instead of its limit for many keys."""
    predicted_distance: Float[Tensor, "batch heads"]
    r"""`distance_to` the normal with the predicted moments."""


@torch.no_grad()
@without_autocast
def lognormal_fit(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> LogNormalFit:
    r"""Moments of $\log P$ of every softmax head, their prediction, and the distance to normality.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys). Only visible
            entries count.
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.

    Returns:
        `LogNormalFit` in float32 or wider, without a graph.

    Raises:
        ArgumentError: inputs that do not fit (`gibbsian.attention.inputs`).

    Notes:
        Two passes over the scores in blocks of queries: O(queries keys head_dim) time, memory
        linear in the length. The entries of one row share its log Z and are not independent: a
        distance is a distance, and no p-value belongs to it.

    References:
        Nahshan, Kampeas & Haleva, arXiv 2311.13541v4, Proposition 3.1 and figure 5a;
        docs/derivations/lognormal.md#fit.
    """
    dtype = working_dtype(query)
    inputs = checked_inputs(
        query.detach().to(dtype),
        key.detach().to(dtype),
        key.detach().to(dtype),
        mask=mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )
    moments = _Moments.of(inputs)
    temperatures = head_temperatures(
        inputs.query,
        inputs.key,
        mask=mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )
    predicted = temperatures.softmax.double().pow(-2)
    num_keys = moments.num_keys.double().clamp_min(1)
    predicted_mu = -moments.over_entries(num_keys.log()) - predicted / 2
    fenton_mu = -moments.over_entries(fenton_mean(predicted.unsqueeze(-1), num_keys))
    mu, sigma = moments.mean, moments.variance.sqrt()
    counts = _histogram(inputs, mu, sigma)
    distance = torch.where(sigma != 0, distance_from_counts(counts, mu, sigma, mu, sigma), 0.0)
    predicted_distance = distance_from_counts(counts, mu, sigma, predicted_mu, predicted.sqrt())
    return LogNormalFit(
        mu=mu.to(dtype),
        sigma=sigma.to(dtype),
        predicted_mu=predicted_mu.to(dtype),
        predicted_sigma=predicted.sqrt().to(dtype),
        fenton_mu=fenton_mu.to(dtype),
        distance=distance.to(dtype),
        predicted_distance=predicted_distance.to(dtype),
        num_entries=moments.num_entries,
        counts=counts,
    )


def _log_weights(inputs: AttentionInputs) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Queries, their log P in float64 (0 where a key is not visible), and which are visible."""
    for part, block in query_blocks(inputs):
        scores = block.scores().double()
        visible = scores != -torch.inf  # a NaN is, and shows
        level = scores.logsumexp(dim=-1, keepdim=True)
        yield part, torch.where(visible, scores - level, 0.0), visible


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Moments:
    """In float64, each (batch, heads) unless said otherwise."""

    mean: Tensor
    variance: Tensor
    num_entries: Tensor
    num_keys: Tensor
    """That each row sees, (batch, heads, queries)."""

    @classmethod
    def of(cls, inputs: AttentionInputs) -> "_Moments":
        """One pass, the blocks' central moments merged."""
        shape = inputs.query.shape[:3]
        num_keys = torch.zeros(shape, dtype=torch.int64, device=inputs.query.device)
        mean = torch.zeros(shape[:2], dtype=torch.float64, device=inputs.query.device)
        squares, count = torch.zeros_like(mean), torch.zeros_like(mean)
        for part, log_weights, visible in _log_weights(inputs):
            num_keys[..., part] = visible.sum(dim=-1)
            number = num_keys[..., part].sum(dim=-1).double()
            own = log_weights.sum(dim=(-2, -1)) / number.clamp_min(1)
            deviation = torch.where(visible, log_weights - own[..., None, None], 0.0)
            total = (count + number).clamp_min(1)
            step = own - mean
            squares += deviation.square().sum(dim=(-2, -1))
            squares += step.square() * (count * number / total)
            mean += step * (number / total)
            count += number
        return cls(
            mean=mean,
            variance=squares / count.clamp_min(1),
            num_entries=count.long(),
            num_keys=num_keys,
        )

    def over_entries(self, per_row: Tensor) -> Tensor:
        """Mean over the entries of something that is the same for all entries of a row."""
        total = (per_row * self.num_keys).sum(dim=-1)
        return total / self.num_entries.clamp_min(1)


def _histogram(inputs: AttentionInputs, mean: Tensor, deviation: Tensor) -> Tensor:
    counts = torch.zeros(*mean.shape, BINS, dtype=torch.int64, device=mean.device)
    for _, log_weights, visible in _log_weights(inputs):
        add_counts(counts, log_weights.flatten(-2), visible.flatten(-2), mean, deviation)
    return counts
