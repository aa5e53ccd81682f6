"""LLN and LLN+Diag attention, row by row from their equations, float64 NumPy."""

import numpy as np


def visible(batch, heads, queries, keys, *, mask=None, is_causal=False):
    """Dense mask (batch, heads, queries, keys), True = query i sees key j."""
    dense = np.ones((batch, heads, queries, keys), dtype=bool)
    if mask is not None:
        dense &= np.asarray(mask, dtype=bool)
    if is_causal:
        dense &= np.arange(keys)[None, :] <= np.arange(queries)[:, None]
    return dense


def weights(query, key, query_scale, key_scale, seen):
    """P of one head: (queries, d), (keys, d), two numbers, (queries, keys) -> (queries, keys)."""
    query, key = np.asarray(query, dtype=np.float64), np.asarray(key, dtype=np.float64)
    result = np.zeros(seen.shape)
    for i in range(len(query)):
        js = np.flatnonzero(seen[i])
        if js.size == 0:
            continue
        exponents = query_scale * query[i] + key_scale * key[js]
        terms = np.exp(exponents - exponents.max()).sum(axis=1)
        result[i, js] = terms / terms.sum()
    return result


def diag_weights(query, key, query_scale, key_scale, seen, *, scale, block_size, places, present):
    """LLN+Diag of one head; `present` (keys,), `places` the key at which each query stands."""
    long_range = weights(query, key, query_scale, key_scale, seen)
    query, key = np.asarray(query, dtype=np.float64), np.asarray(key, dtype=np.float64)
    kept = [j for j in range(len(key)) if present[j]]
    block = {j: rank // block_size for rank, j in enumerate(kept)}
    result = long_range.copy()
    for i in range(len(query)):
        mine = block.get(places[i])
        if mine is None:
            continue
        js = [j for j in kept if block[j] == mine and seen[i, j]]
        scores = np.array([scale * query[i] @ key[j] for j in js])
        short_range = np.zeros(len(key))
        short_range[js] = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        result[i] = (long_range[i] + short_range) / 2
    return result


def entropy_and_varentropy(probs):
    """Shannon entropy and varentropy (nats) of one row."""
    p = probs[probs > 0]
    if p.size == 0:
        return 0.0, 0.0
    entropy = -(p * np.log(p)).sum()
    return entropy, (p * (np.log(p) + entropy) ** 2).sum()
