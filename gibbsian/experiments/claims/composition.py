"""What samplers do to rows of next-token logits, alone and one after another, without drawing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.experiments.claims.samplers import Sampler, distance, entropies

_WIDTHS = (512, 4096)
"""Rows with so few tokens left are cut to that length before the next sampler sees them."""


class Composition(NamedTuple):
    """Means over rows; pairs are indexed [first][second]."""

    effect: list[float]
    """Total variation distance between the model's distribution and what the sampler leaves."""
    entropy: list[float]
    """Of what it leaves, nats."""
    kept: list[float]
    """Number of tokens that it leaves."""
    after: list[list[float]]
    """Distance that the second goes from what the first has left."""
    between: list[list[float]]
    """Distance between what the two leave, each alone."""
    overlap: list[list[float]]
    """Tokens that both keep over tokens that one keeps."""


@torch.no_grad()
def composition(
    logits: Float[Tensor, "rows states"], samplers: Mapping[str, Sampler]
) -> Composition:
    """Every sampler alone, and every one after every one.

    Args:
        logits: descending in each row.
        samplers: by name; the result is in their order.
    """
    whole = logits.softmax(dim=-1)
    left = [sampler(logits) for sampler in samplers.values()]
    probs = torch.stack([x.softmax(dim=-1) for x in left], dim=1)
    pools = torch.stack([(x > -torch.inf).float() for x in left], dim=1)
    both = pools @ pools.mT
    size = both.diagonal(dim1=-2, dim2=-1)
    either = size[:, :, None] + size[:, None, :] - both
    return Composition(
        effect=[distance(whole, probs[:, i]).mean().item() for i in range(len(left))],
        entropy=[entropies(probs[:, i]).mean().item() for i in range(len(left))],
        kept=size.mean(dim=0).tolist(),
        after=[_after(x, list(samplers.values())) for x in left],
        between=(torch.cdist(probs, probs, p=1) / 2).mean(dim=0).tolist(),
        overlap=(both / either).mean(dim=0).tolist(),
    )


def _after(left: Tensor, samplers: Sequence[Sampler]) -> list[float]:
    """Mean distance that each sampler goes from `left`.

    What the first has cut no sampler can tell from what never was: a row is as long as its last
    token that is left.
    """
    states = left.shape[-1]
    length = (left > -torch.inf).mul(torch.arange(1, states + 1)).amax(dim=-1)
    totals = torch.zeros(len(samplers), dtype=torch.float64)
    least = 0
    for width in (*(w for w in _WIDTHS if w < states), states):
        rows = left[(length > least) & (length <= width), :width].contiguous()
        least = width
        if len(rows):
            base = rows.softmax(dim=-1)
            for i, sampler in enumerate(samplers):
                totals[i] += distance(base, sampler(rows).softmax(dim=-1)).sum().double()
    return (totals / left.shape[0]).tolist()
