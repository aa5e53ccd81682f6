r"""How near a set of numbers is to a normal distribution, from a histogram of them.

The numbers are counted once, standardised; distances and quantiles are read from the counts.
Derivation: docs/derivations/lognormal.md#fit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gibbsian._errors import ArgumentError

BINS = 1 << 14
"""Of the standardised numbers: a thousandth of a standard deviation wide."""
REACH = 8.0
"""How many standard deviations they reach to either side; what lies beyond is in the last bin."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NormalFit:
    """Of every set of numbers; an empty one gives 0 everywhere."""

    mu: Float[Tensor, "*batch"]
    """Mean."""
    sigma: Float[Tensor, "*batch"]
    """Standard deviation."""
    distance: Float[Tensor, "*batch"]
    r"""Kolmogorov-Smirnov distance to the fitted normal, in [0, 1], to $4 \cdot 10^{-4}$; 0 where
    $\sigma = 0$."""
    num_entries: Int[Tensor, "*batch"]
    """How many numbers."""
    counts: Int[Tensor, "*batch bins"]
    r"""Histogram of the numbers, $(x - \mu)/\sigma$ on equal bins from -8 to 8; the first and the
    last also hold what lies beyond."""

    def distance_to(
        self, mean: float | Tensor, deviation: float | Tensor
    ) -> Float[Tensor, "*batch"]:
        r"""Kolmogorov-Smirnov distance to another normal.

        Args:
            mean: of that normal; one number, or one for each set.
            deviation: its standard deviation; the same.

        Returns:
            In [0, 1], to $4 \cdot 10^{-4}$ times `sigma/deviation`.
        """

        def moment(value: float | Tensor) -> Tensor:
            return torch.as_tensor(value, dtype=torch.float64, device=self.mu.device)

        found = distance_from_counts(
            self.counts, self.mu.double(), self.sigma.double(), moment(mean), moment(deviation)
        )
        return found.to(self.mu)

    def quantiles(
        self, probabilities: Float[Tensor, "points"]
    ) -> tuple[Float[Tensor, "*batch points"], Float[Tensor, "points"]]:
        r"""Data of a quantile-quantile plot: `(measured, normal)`, both standardised.

        Args:
            probabilities: in (0, 1).

        Returns:
            The quantiles of $(x - \mu)/\sigma$, to a bin's width of 0.001, and those of the
            standard normal.

        Raises:
            ArgumentError: a probability outside (0, 1).
        """
        if not bool(((probabilities > 0) & (probabilities < 1)).all()):
            raise ArgumentError(
                f"`probabilities` must lie in (0, 1), got values from {float(probabilities.min())} "
                f"to {float(probabilities.max())}. Use `torch.linspace(0.01, 0.99, 99)`."
            )
        wanted = probabilities.to(self.mu)
        below = _distribution(self.counts).to(self.mu)
        places = wanted.expand(*self.mu.shape, -1).contiguous()
        bins = torch.searchsorted(below.contiguous(), places).clamp_max(BINS - 1)
        upper = below.gather(-1, bins)
        lower = torch.where(bins > 0, below.gather(-1, (bins - 1).clamp_min(0)), 0.0)
        within = (places - lower) / torch.where(upper > lower, upper - lower, 1.0)
        measured = -REACH + (bins + within.clamp(0, 1)) * (2 * REACH / BINS)
        return measured, torch.special.ndtri(wanted)


@torch.no_grad()
def normal_fit(samples: Float[Tensor, "*batch entries"]) -> NormalFit:
    r"""Moments of numbers that are held in memory, and their distance to normality.

    Args:
        samples: finite.

    Returns:
        `NormalFit` in float64, without a graph.

    Notes:
        O(entries) time. `lognormal_fit` does the same with weights that are never held at once.

    References:
        docs/derivations/lognormal.md#fit.
    """
    samples = samples.detach().double()
    number = samples.shape[-1]
    mu = samples.sum(dim=-1) / max(1, number)
    deviation = samples - mu.unsqueeze(-1)
    sigma = (deviation.square().sum(dim=-1) / max(1, number)).sqrt()
    counts = torch.zeros(*mu.shape, BINS, dtype=torch.int64, device=mu.device)
    visible = torch.ones_like(samples, dtype=torch.bool)
    add_counts(counts, samples, visible, mu, sigma)
    return NormalFit(
        mu=mu,
        sigma=sigma,
        distance=torch.where(sigma != 0, distance_from_counts(counts, mu, sigma, mu, sigma), 0.0),
        num_entries=torch.full_like(mu, number, dtype=torch.int64),
        counts=counts,
    )


def add_counts(
    counts: Int[Tensor, "*batch bins"],
    samples: Float[Tensor, "*batch entries"],
    visible: Tensor,
    mean: Float[Tensor, "*batch"],
    deviation: Float[Tensor, "*batch"],
) -> None:
    """Add the visible numbers, standardised, to the histograms of their sets, in place.

    A NaN has no place in one.
    """
    sets = mean.numel()
    offset = torch.arange(sets, device=mean.device).view(*mean.shape, 1) * BINS
    unit = torch.where(deviation > 0, deviation, 1.0).unsqueeze(-1)
    place = ((samples - mean.unsqueeze(-1)) / unit + REACH) * (BINS / (2 * REACH))
    bins = place.clamp(0, BINS - 1).long() + offset
    counts += torch.bincount(bins[visible & ~place.isnan()], minlength=sets * BINS).view(
        counts.shape
    )


def distance_from_counts(
    counts: Int[Tensor, "*batch bins"],
    mu: Float[Tensor, "*batch"],
    sigma: Float[Tensor, "*batch"],
    mean: Float[Tensor, "*#batch"],
    deviation: Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch"]:
    """Kolmogorov-Smirnov distance to a normal, taken at the edges of the bins, float64.

    `mu` and `sigma` standardised what was counted; `mean` and `deviation` are the normal's.
    """
    edges = torch.arange(1, BINS, device=mu.device, dtype=torch.float64)
    edges = edges * (2 * REACH / BINS) - REACH
    places = mu.unsqueeze(-1) + sigma.unsqueeze(-1) * edges
    smallest = torch.finfo(torch.float64).tiny
    standard = (places - mean.unsqueeze(-1)) / deviation.clamp_min(smallest).unsqueeze(-1)
    gaps = (_distribution(counts)[..., :-1] - torch.special.ndtr(standard)).abs()
    # 0 without a number, NaN if one was NaN
    return torch.where(counts.sum(dim=-1) > 0, gaps.amax(dim=-1), 0.0 * mu)


def _distribution(counts: Tensor) -> Tensor:
    """Share of the numbers below the upper edge of each bin, float64."""
    return counts.cumsum(dim=-1).double() / counts.sum(dim=-1, keepdim=True).clamp_min(1)
