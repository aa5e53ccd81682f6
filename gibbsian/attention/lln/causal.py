r"""LLN attention where no query sees the keys after it, in chunks.

Inside a chunk of C queries and keys the weights are formed (C x C numbers); what came before the
chunk is one `LLNState`. Time O(N (C + d) d), memory O(N (C + d)) with gradients: a state is kept
for each chunk, never for each step.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.attention.lln.padding import pad_steps
from gibbsian.attention.lln.state import (
    LLNState,
    finite,
    normalized,
    query_features,
    with_ones,
)

CHUNK_SIZE = 64
"""Queries handled together: near the head dimensions in use, so that both products cost alike."""

SAFE_FRACTION = 0.68
"""Part of the exponent range that a chunk's keys may span above its shift: what a query's feature
loses below the smallest number, multiplied by the largest key, stays under one rounding."""


def causal_lln(
    log_query: Float[Tensor, "batch heads queries head_dim"],
    log_key: Float[Tensor, "batch heads keys head_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
    *,
    offset: int = 0,
    chunk_size: int = CHUNK_SIZE,
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Output of $P_{ij} \propto \sum_f e^{a_{if} + b_{jf}}$ over the keys $j \le i +$ `offset`.

    Args:
        log_query: a = query_scale q, float32 or wider.
        log_key: b = key_scale k; -inf in every feature of an absent key.
        value: what is averaged; finite.
        offset: position of the first query among the keys; below 0, the first queries see no key.
        chunk_size: queries handled together.

    Notes:
        A chunk's keys are shifted by the running maximum at its *first* key, which all its queries
        see (absent, it counts for nothing; if there is no key before the chunk either, its first
        present key stands in, before which no query sees any): the future decides no bit of the
        past. Keys later in the chunk may exceed that shift; a chunk in which they do by more than
        the exponent range allows is halved until they do not (at one key they cannot).

    References: docs/derivations/lln.md#causal-form.
    """
    if offset < 0:
        blind = log_query.new_zeros((*log_query.shape[:2], -offset, value.shape[-1]))
        blind = blind[:, :, : log_query.shape[-2]]
        seeing = causal_lln(log_query[:, :, -offset:], log_key, value, chunk_size=chunk_size)
        return torch.cat([blind, seeing], dim=-2)
    queries = log_query.shape[-2]
    past = LLNState.of(log_key[:, :, :offset], value[:, :, :offset])
    log_key, value = log_key[:, :, offset:], value[:, :, offset:]
    # Keys after the last query do not matter; queries after the last key need absent ones.
    surplus = queries - log_key.shape[-2]
    log_key = pad_steps(log_key, 0, surplus, -torch.inf)
    return _causal_chunks(log_query, log_key, pad_steps(value, 0, surplus), past, chunk_size)


def _causal_chunks(
    log_query: Tensor, log_key: Tensor, value: Tensor, past: LLNState, chunk_size: int
) -> Tensor:
    """As many keys as queries, query i at key i, after the keys of `past`."""
    steps = log_query.shape[-2]
    if steps == 0:
        return log_query.new_zeros(value.shape)
    chunk_size, shift = _chunk_shifts(log_key, past, min(chunk_size, 1 << (steps - 1).bit_length()))
    log_query = _chunked(log_query, chunk_size)
    features = (_chunked(log_key, chunk_size, -torch.inf) - shift.unsqueeze(-2)).exp()
    values = with_ones(_chunked(value, chunk_size))
    queries = query_features(log_query, shift)

    increments = features.mT @ values
    entering = (past.maximum - shift[:, :, 0]).exp().unsqueeze(-1) * past.memory
    memories = [entering]
    # clamp: only the arbitrary shift of a chunk without keys can be above its successor's
    decay = (shift[:, :, :-1] - shift[:, :, 1:]).clamp_max(0.0).exp().unsqueeze(-1)
    for chunk in range(shift.shape[2] - 1):
        entering = (entering + increments[:, :, chunk]) * decay[:, :, chunk]
        memories.append(entering)

    weights = (queries @ features.mT).tril()
    sums = weights @ values + queries @ torch.stack(memories, dim=2)
    return normalized(sums).flatten(2, 3)[:, :, :steps]


@torch.no_grad()
def _chunk_shifts(log_key: Tensor, past: LLNState, chunk_size: int) -> tuple[int, Tensor]:
    """Chunk size, at most the one given, and the shift (batch, heads, chunks, head_dim) of each."""
    limit = SAFE_FRACTION * math.log(torch.finfo(log_key.dtype).max)
    while True:
        keys = _chunked(log_key, chunk_size, -torch.inf)
        largest = keys.amax(dim=-2)
        before = torch.cat([past.maximum.unsqueeze(2), largest[:, :, :-1]], dim=2)
        before = before.cummax(dim=2).values
        # argmax: the first key of the chunk that is present
        first = (keys[..., :1] > -torch.inf).byte().argmax(dim=-2, keepdim=True)
        first_present = keys.take_along_dim(first, dim=-2).squeeze(-2)
        # where a key came before, queries ahead of `first` see that one and not this
        key = torch.where(before[..., :1] > -torch.inf, keys[..., 0, :], first_present)
        shift = finite(torch.maximum(before, key))
        if chunk_size == 1 or not bool((largest - shift).amax() > limit):
            return chunk_size, shift
        chunk_size //= 2


def _chunked(rows: Tensor, chunk_size: int, fill: float = 0.0) -> Tensor:
    """(batch, heads, steps, dim) as (batch, heads, chunks, chunk_size, dim), filled at the end."""
    padded = pad_steps(rows, 0, -rows.shape[-2] % chunk_size, fill)
    batch, heads, steps, dim = padded.shape
    return padded.reshape(batch, heads, steps // chunk_size, chunk_size, dim)
