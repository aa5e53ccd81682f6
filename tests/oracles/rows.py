"""Observables of attention rows from whole matrices, float64 NumPy."""

import numpy as np

from tests.oracles import entmax, gibbs


def weights(query, key, *, seen, scale=None, zeta=None):
    """Matrices of weights (batch, heads, queries, keys); rows without a key are 0.

    Args:
        query, key: arrays (batch, heads, length, dim); key heads may divide query heads.
        seen: boolean (batch, heads, queries, keys), True = may attend.
        scale: None = 1/sqrt(head_dim).
        zeta: sparsities (batch, heads, queries); None = softmax.
    """
    query, key = np.asarray(query, np.float64), np.asarray(key, np.float64)
    batch, heads, queries, head_dim = query.shape
    group = heads // key.shape[1]
    scale = head_dim**-0.5 if scale is None else scale
    result = np.zeros((batch, heads, queries, key.shape[2]))
    for b, h, i in np.ndindex(batch, heads, queries):
        js = np.flatnonzero(seen[b, h, i])
        if js.size:
            scores = scale * (key[b, h // group, js] @ query[b, h, i])
            row_zeta = 0.0 if zeta is None else float(zeta[b, h, i])
            result[b, h, i, js] = entmax.probabilities(scores, row_zeta)
    return result


def observables(query, key, *, seen, scale=None):
    """All that `row_observables` returns, as a dict of arrays (batch, heads, queries)."""
    query, key = np.asarray(query, np.float64), np.asarray(key, np.float64)
    p = weights(query, key, seen=seen, scale=scale)
    batch, heads, queries, keys = p.shape
    group = heads // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    rows = {}
    for b, h, i in np.ndindex(batch, heads, queries):
        js = np.flatnonzero(seen[b, h, i])
        found = gibbs.statistics(scale * (key[b, h // group, js] @ query[b, h, i]))
        found["sink_mass"] = p[b, h, i, js[0]] if js.size else 0.0
        found["diagonal_mass"] = p[b, h, i, i] if i < keys else 0.0
        found["attended_distance"] = (p[b, h, i] * np.abs(i - np.arange(keys))).sum()
        for name, number in found.items():
            rows.setdefault(name, np.zeros((batch, heads, queries)))[b, h, i] = number
    return rows


def shannon(p):
    """Shannon entropies of the rows of p; 0 log 0 = 0."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)


def agreement(p, present):
    """Mean over the other heads, and the rows present in both, of half the L1 distance.

    Args:
        p: (heads, rows, keys).
        present: (heads, rows).
    """
    heads = p.shape[0]
    result = np.zeros(heads)
    for a in range(heads):
        distances = []
        for b in range(heads):
            both = present[a] & present[b]
            if a != b and both.any():
                distances.append(0.5 * np.abs(p[a, both] - p[b, both]).sum(axis=-1).mean())
        result[a] = np.mean(distances) if distances else 0.0
    return result
