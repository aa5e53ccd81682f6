"""Softmax, entmax and AES attention, one row at a time from their equations, float64 NumPy."""

import numpy as np

from tests.oracles import entmax, gibbs


def attend(query, key, value, *, zeta, seen, scale=None):
    """Attention with the sparsity `zeta(statistics) -> number` of each row.

    Args:
        query, key, value: arrays (batch, heads, length, dim); key heads may divide query heads.
        zeta: maps the dict of `tests.oracles.gibbs.statistics` to a sparsity.
        seen: boolean (batch, heads, queries, keys), True = may attend.
        scale: None = 1/sqrt(head_dim).

    Returns:
        The output, and a dict of the rows' entropy, varentropy, zeta, support_size and num_keys.
    """
    query, key, value = (np.asarray(array, dtype=np.float64) for array in (query, key, value))
    batch, heads, queries, head_dim = query.shape
    group = heads // key.shape[1]
    scale = head_dim**-0.5 if scale is None else scale
    output = np.zeros((batch, heads, queries, value.shape[-1]))
    names = ("entropy", "varentropy", "zeta", "support_size", "num_keys")
    reported = {name: np.zeros((batch, heads, queries)) for name in names}
    for b, h, i in np.ndindex(batch, heads, queries):
        js = np.flatnonzero(seen[b, h, i])
        scores = scale * (key[b, h // group, js] @ query[b, h, i])
        statistics = gibbs.statistics(scores)
        row_zeta = float(zeta(statistics))
        values = {
            "entropy": statistics["entropy"],
            "varentropy": statistics["varentropy"],
            "zeta": row_zeta,
            "num_keys": js.size,
            "support_size": 0,
        }
        if js.size:
            weights = entmax.probabilities(scores, row_zeta)
            output[b, h, i] = weights @ value[b, h // group, js]
            values["support_size"] = np.count_nonzero(weights)
        for name in names:
            reported[name][b, h, i] = values[name]
    return output, reported
