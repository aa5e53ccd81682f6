"""Gibbs statistics of one row, straight from their definitions, in extended precision."""

import numpy as np


def statistics(scores, *, mask=None, temperature=1.0):
    """All fields and properties of GibbsStatistics for one row, as a dict of floats.

    Absent states (mask False or -inf) are deleted first. NumPy's long double has 64 bits of
    mantissa on x86, so that the naive definitions below are good for float64.
    """
    scores = np.asarray(scores, dtype=np.longdouble).reshape(-1)
    keep = scores != -np.inf
    if mask is not None:
        keep &= np.asarray(mask, dtype=bool).reshape(-1)
    x = scores[keep]
    n = x.size
    temperature = np.longdouble(temperature)
    if n == 0:
        empty = dict.fromkeys(
            [
                "min_entropy",
                "collision_entropy",
                "entropy",
                "varentropy",
                "third_cumulant",
                "num_states",
                "internal_energy",
                "max_prob",
                "effective_support",
                "participation_ratio",
                "normalized_entropy",
                "susceptibility",
            ],
            0.0,
        )
        return empty | {
            "max_score": -np.inf,
            "log_partition": -np.inf,
            "free_energy": np.inf,
            "temperature": float(temperature),
        }
    reduced = x / temperature
    top = reduced.max()
    log_z = top + np.log(np.exp(reduced - top).sum())
    log_p = reduced - log_z
    p = np.exp(log_p)
    p /= p.sum()
    mean = (p * log_p).sum()
    central = log_p - mean
    central -= (p * central).sum()
    entropy = -mean
    varentropy = (p * central**2).sum()
    third = (p * central**3).sum()
    result = {
        "max_score": x.max(),
        "min_entropy": -log_p.max(),
        "collision_entropy": -np.log((p**2).sum()),
        "entropy": entropy,
        "varentropy": varentropy,
        "third_cumulant": third,
        "num_states": n,
        "temperature": temperature,
        "log_partition": log_z,
        "free_energy": -temperature * log_z,
        "internal_energy": -(p * x).sum(),
        "max_prob": p.max(),
        "effective_support": np.exp(entropy),
        "participation_ratio": 1 / (p**2).sum(),
        "normalized_entropy": entropy / np.log(np.longdouble(n)) if n > 1 else 0.0,
        "susceptibility": entropy * varentropy - third / 2,
    }
    return {name: float(value) for name, value in result.items()}


def cumulants(scores, observable):
    """First four cumulants of an observable under p = exp(scores)/Z, from its moments."""
    x = np.asarray(scores, dtype=np.longdouble)
    a = np.asarray(observable, dtype=np.longdouble)
    p = np.exp(x - x.max())
    p /= p.sum()
    m1, m2, m3, m4 = ((p * a**k).sum() for k in (1, 2, 3, 4))
    return [
        float(m1),
        float(m2 - m1**2),
        float(m3 - 3 * m2 * m1 + 2 * m1**3),
        float(m4 - 4 * m3 * m1 - 3 * m2**2 + 12 * m2 * m1**2 - 6 * m1**4),
    ]
