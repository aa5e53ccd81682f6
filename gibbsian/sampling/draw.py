"""One token of each row, by the inverse of the cumulative distribution.

The sum runs in two levels, over blocks of tokens and inside the block that was hit: one pass over
the vocabulary, and float64 where the numbers are large. A token of probability 0 is never drawn.
Error: docs/derivations/sampling.md#draw.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

_BLOCK = 256


@torch.no_grad()
def draw(
    logits: Float[Tensor, "batch states"], uniform: Float[Tensor, "batch draws"]
) -> Integer[Tensor, "batch draws"]:
    """Tokens at given points of the cumulative distribution softmax(logits).

    Args:
        logits: -inf marks a token that cannot be drawn; every row has at least one other.
        uniform: float64, in [0, 1): uniform numbers give unbiased draws.

    Returns:
        Tokens, int64. Of a row with no token, or with a NaN, any number in the vocabulary.
    """
    states = logits.shape[-1]
    probs = logits.softmax(dim=-1)
    whole = states - states % _BLOCK
    sums = probs[:, :whole].unflatten(-1, (-1, _BLOCK)).sum(dim=-1)
    if whole < states:
        sums = torch.cat([sums, probs[:, whole:].sum(dim=-1, keepdim=True)], dim=-1)
    sums = sums.double()
    reached = sums.cumsum(dim=-1)
    point = _inside(uniform * reached[:, -1:], reached)
    block = _position(reached, point)
    before = (reached - sums).gather(-1, block)

    # the tokens of the block that was hit, (batch, draws, _BLOCK)
    index = block.unsqueeze(-1) * _BLOCK + torch.arange(_BLOCK, device=logits.device)
    clamped = index.clamp_max(states - 1).flatten(1)
    weights = probs.gather(-1, clamped).view(index.shape)
    weights = torch.where(index < states, weights, 0.0).double()
    inner = weights.cumsum(dim=-1)
    rest = _inside((point - before).clamp_min(0.0).unsqueeze(-1), inner)
    offset = _position(inner, rest).squeeze(-1)
    return (block * _BLOCK + offset).clamp(0, states - 1)


def _inside(point: Tensor, reached: Tensor) -> Tensor:
    """A point that rounding may have put at the end of the sums, just below it."""
    end = reached[..., -1:]
    return torch.minimum(point, torch.nextafter(end, torch.zeros_like(end)))


def _position(reached: Tensor, point: Tensor) -> Tensor:
    """The first sum above the point: one that has just grown, so its weight is not 0."""
    found = torch.searchsorted(reached, point.contiguous(), right=True)
    return found.clamp_max(reached.shape[-1] - 1)
