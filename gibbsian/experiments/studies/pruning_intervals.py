r"""What the visited keys prove of a row's entropy and varentropy.

Keys that were not visited have only bounds: $l_j \le x_j \le u_j$. They leave S and V in certified
intervals, and so the sparsity that a schedule makes of them. Two ways: by the weight that the rest
can have at most (groups of keys), or by how little their scores can differ from known approximate
ones (a rounded copy). Both hold for every score inside the bounds.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_PIECES = 32


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Interval:
    """Certified intervals of one number a row or a number of visited keys."""

    low: Float[Tensor, "*batch"]
    """At least this."""
    high: Float[Tensor, "*batch"]
    """At most this."""

    @property
    def width(self) -> Tensor:
        """High less low."""
        return self.high - self.low


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Known:
    """The visited keys of each row, and bounds on the others; every field (*batch)."""

    log_partition: Tensor
    """Of the visited keys."""
    entropy: Tensor
    """Of the visited keys among themselves."""
    varentropy: Tensor
    """Likewise."""
    rest: Tensor
    """How many were not visited."""
    log_low: Tensor
    """Lower bound of the logarithm of the others' summed weight."""
    log_high: Tensor
    """Upper bound of it."""
    largest: Tensor
    """Upper bound of the others' scores."""
    smallest: Tensor
    """Lower bound of the others' scores."""


def merged_intervals(known: Known) -> tuple[Interval, Interval]:
    r"""Entropy and varentropy of all keys.

    With w the share of the others, a for visited and b for the others,
    $S = h(w) + (1-w) S_a + w S_b$ and $V = (1-w) V_a + w V_b + w (1-w) D^2$ where
    $D = S_b - S_a - \log(w/(1-w))$. S is concave in w; the last term of V is bounded piece by
    piece over the logit of w.
    """
    none = known.rest == 0
    logit_low = known.log_low - known.log_partition
    logit_high = known.log_high - known.log_partition
    others_high = torch.where(none, 0.0, known.rest.clamp_min(1).log())
    # all others alike at their largest score would have this entropy
    others_low = torch.where(none, 0.0, (known.log_low - known.largest).clamp_min(0.0))
    others_low = torch.minimum(others_low, others_high)

    def entropy(logit: Tensor, others: Tensor) -> Tensor:
        share = logit.sigmoid()
        mixing = _binary_entropy(logit)
        return mixing + (1 - share) * known.entropy + share * others

    ends = [entropy(logit, others_low) for logit in (logit_low, logit_high)]
    best = torch.minimum(torch.maximum(others_high - known.entropy, logit_low), logit_high)
    low = torch.where(none, known.entropy, torch.minimum(*ends))
    high = torch.where(none, known.entropy, entropy(best, others_high))

    reach = (known.largest - known.smallest).clamp_min(0.0)
    # largest varentropy of a variable of that range, and of that many states
    inner = torch.minimum(reach.square() / 4, others_high.square() / 4 + 1)
    inner = torch.where(known.rest <= 1, 0.0, inner)
    share_low, share_high = logit_low.sigmoid(), logit_high.sigmoid()
    gap_low, gap_high = others_low - known.entropy, others_high - known.entropy
    between_low = torch.full_like(low, torch.inf)
    between_high = torch.zeros_like(low)
    for piece in range(_PIECES):
        left = torch.lerp(logit_low, logit_high, piece / _PIECES)
        right = torch.lerp(logit_low, logit_high, (piece + 1) / _PIECES)
        ends = [logit.sigmoid() * (-logit).sigmoid() for logit in (left, right)]
        least = torch.minimum(*ends)
        most = torch.where((left < 0) & (right > 0), 0.25, torch.maximum(*ends))
        distance_low, distance_high = gap_low - right, gap_high - left
        furthest = torch.maximum(distance_low.abs(), distance_high.abs())
        nearest = torch.maximum(distance_low, -distance_high).clamp_min(0.0)
        between_low = torch.minimum(between_low, least * nearest.square())
        between_high = torch.maximum(between_high, most * furthest.square())
    least = (1 - share_high) * known.varentropy + between_low
    most = (1 - share_low) * known.varentropy + share_high * inner + between_high
    return (
        Interval(low=low, high=high),
        Interval(
            low=torch.where(none, known.varentropy, least),
            high=torch.where(none, known.varentropy, most),
        ),
    )


def _binary_entropy(logit: Tensor) -> Tensor:
    share = logit.sigmoid()
    finite = torch.where(logit.isfinite(), logit, 0.0)
    mixing = torch.nn.functional.softplus(finite) - share * finite
    return torch.where(logit.isfinite(), mixing, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Approximate:
    """Scores of which a part is known up to an error; every field (*batch)."""

    entropy: Tensor
    """Of the approximate scores."""
    varentropy: Tensor
    """Likewise."""
    fourth_moment: Tensor
    """Likewise, of the surprisal about its mean."""
    square: Tensor
    """Sum over the keys that were not visited of p e_j^2, e_j the bound of that key's error."""
    error: Tensor
    """The largest of their e_j."""


def rounded_intervals(known: Approximate) -> tuple[Interval, Interval]:
    r"""Entropy and varentropy of the true scores.

    On the way from the approximate scores to the true ones, $x_t = \hat x + t\delta$, no
    probability grows by more than $g^2 = e^{2e}$. Hence
    $\sigma_\delta \le g (\sum_j p_j e_j^2)^{1/2}$ and $\sigma_x \le g(\hat\sigma + e)$, and as
    dS = -Cov(x, \delta) dt, $|\Delta S| \le \sigma_x \sigma_\delta$. Likewise
    dV = Cov((x - \mu)^2, \delta) + 2 Cov(x, \delta), with the fourth moment bounded as the second.
    """
    growth = known.error.exp()
    deviation = known.varentropy.sqrt()
    spread = torch.minimum(known.error, growth * known.square.sqrt())
    most = growth * (deviation + known.error)
    change = most * spread
    fourth = growth.sqrt() * (known.fourth_moment**0.25 + known.error) + change + spread
    response = spread * (fourth.square() + 2 * most)
    least = (deviation / growth - known.error).clamp_min(0.0).square()
    return (
        Interval(low=(known.entropy - change).clamp_min(0.0), high=known.entropy + change),
        Interval(
            low=torch.maximum(least, known.varentropy - response),
            high=torch.minimum(most.square(), known.varentropy + response),
        ),
    )
