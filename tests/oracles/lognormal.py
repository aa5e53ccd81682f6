"""Log weights of dense softmax rows and their distance to a normal, float64 NumPy and SciPy."""

import numpy as np
from scipy import stats


def log_weights(query, key, seen, scale):
    """log P of the visible entries of one head: (queries, d), (keys, d), boolean -> (entries,)."""
    query, key = np.asarray(query, dtype=np.float64), np.asarray(key, dtype=np.float64)
    entries = []
    for i in range(len(query)):
        js = np.flatnonzero(seen[i])
        if js.size:
            scores = scale * (key[js] @ query[i])
            entries.append(scores - scores.max() - np.log(np.exp(scores - scores.max()).sum()))
    return np.concatenate(entries)


def distance(samples, mean, deviation):
    """Kolmogorov-Smirnov distance of the sorted samples to a normal."""
    return stats.kstest(samples, "norm", args=(mean, deviation)).statistic
