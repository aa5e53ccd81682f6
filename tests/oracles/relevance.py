"""Rows of attention with relevant keys or without one key, one at a time, float64 NumPy."""

import numpy as np

from tests.oracles import entmax


def weights(scores, zeta):
    """Entmax of the scores that are finite; 0 elsewhere."""
    result = np.zeros(scores.shape)
    there = np.flatnonzero(np.isfinite(scores))
    if there.size:
        result[there] = entmax.probabilities(scores[there], zeta)
    return result


def scores(query, key, seen, scale=None):
    """(batch, heads, queries, keys), -inf where not seen; key heads may divide heads."""
    query, key = (np.asarray(array, dtype=np.float64) for array in (query, key))
    key = key.repeat(query.shape[1] // key.shape[1], axis=1)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    products = scale * query @ key.swapaxes(-2, -1)
    return np.where(seen, products, -np.inf)


def leave_one_out(scores, values, zeta):
    """Norms of the change of one row's output for each key deleted: (keys,), (keys, dim)."""
    whole = weights(scores, zeta) @ values
    changes = np.zeros(scores.size)
    for j in range(scores.size):
        left = scores.copy()
        left[j] = -np.inf
        changes[j] = np.linalg.norm(weights(left, zeta) @ values - whole)
    return changes


def relevant_row(scores, values, zeta, relevant):
    """Output, output restricted to the relevant keys (None without), leakage, cross-correlation.

    The cross-correlation is the sum of the Jacobian's block, taken by central differences.
    """
    p = weights(scores, zeta)
    mass = p[relevant].sum()
    restricted = p[relevant] @ values[relevant] / mass if mass > 0 else None
    step, block = 1e-6, 0.0
    for b in np.flatnonzero(~relevant & np.isfinite(scores)):
        up, down = scores.copy(), scores.copy()
        up[b] += step
        down[b] -= step
        change = (weights(up, zeta) - weights(down, zeta)) / (2 * step)
        block += change[relevant].sum()
    return p @ values, restricted, p[~relevant].sum(), abs(block)
