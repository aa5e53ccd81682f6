"""Moments of queries and keys from every triple (query, key, channel), float64 NumPy."""

import numpy as np


def head(query, key, *, scale):
    """Moments of one head from its present queries and keys (positions, dim), as a dict."""
    dim = query.shape[-1]
    query = query * scale * np.sqrt(dim)
    q = (query - query.mean())[:, None, :]
    k = (key - key.mean())[None, :, :]
    q, k = np.broadcast_arrays(q, k)
    q, k = q.ravel(), k.ravel()

    def cov(a, b):
        return ((a - a.mean()) * (b - b.mean())).mean()

    scores = query @ key.T / np.sqrt(dim)
    found = {
        "query_variance": cov(q, q),
        "key_variance": cov(k, k),
        "cross_covariance": cov(q**2, k**2) - cov(q, k) ** 2,
        "score_variance": scores.var(axis=1).mean(),
    }
    # that of the product itself: the sum is its variance
    found["softmax"] = (q * k).var() ** -0.5
    return found
