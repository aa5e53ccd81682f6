"""Filters, policies' laws and draws of one row, straight from their definitions, in float64."""

import numpy as np


def probabilities(logits, temperature=1.0):
    """Gibbs distribution of one row; -inf is absent."""
    x = np.asarray(logits, dtype=np.float64) / temperature
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def surprisals(logits, temperature=1.0):
    """-log p; inf where absent."""
    x = np.asarray(logits, dtype=np.float64) / temperature
    top = x.max()
    return top + np.log(np.exp(x - top).sum()) - x


def entropy(logits, temperature=1.0):
    """Shannon entropy, nats."""
    p, j = probabilities(logits, temperature), surprisals(logits, temperature)
    return float((p[p > 0] * j[p > 0]).sum())


def top_p(logits, mass):
    """Fewest most probable tokens with at least this mass; needs distinct scores."""
    order = np.argsort(-np.asarray(logits, dtype=np.float64), kind="stable")
    reached = np.cumsum(probabilities(logits)[order])
    count = min(int((reached < mass).sum()) + 1, len(order))
    return set(order[:count].tolist())


def top_h(logits, share):
    """Most probable tokens while the entropy of the renormalised pool is at most share * S."""
    order = np.argsort(-np.asarray(logits, dtype=np.float64), kind="stable")
    p = probabilities(logits)[order]
    present = int((p > 0).sum())
    budget = share * entropy(logits)
    count = 1
    for k in range(2, present + 1):
        pool = p[:k] / p[:k].sum()
        if -(pool * np.log(pool)).sum() > budget + 1e-12:
            break
        count = k
    return set(order[:count].tolist())


def top_n_sigma(logits, n):
    """Scores within n standard deviations of the largest; present tokens only."""
    x = np.asarray(logits, dtype=np.float64)
    deviation = x[x > -np.inf].std()
    return set(np.flatnonzero(x >= x.max() - n * deviation).tolist())


def p_less(logits):
    """At least as probable as the mean probability."""
    p = probabilities(logits)
    return set(np.flatnonzero(p >= (p**2).sum()).tolist())


def temperature_of_entropy(logits, target, low=1e-5, high=1e3):
    """S(T) = target, by bisection."""
    for _ in range(200):
        middle = np.sqrt(low * high)
        low, high = (low, middle) if entropy(logits, middle) > target else (middle, high)
    return float(np.sqrt(low * high))


def inverse_cdf(weights, uniform):
    """First index at which the cumulative share exceeds a uniform number."""
    reached = np.cumsum(np.asarray(weights, dtype=np.float64))
    return int((reached <= uniform * reached[-1]).sum())


def uniform(seed, step, draw):
    """The row streams' hash in Python's own integers: SplitMix64's finaliser, twice."""
    words = 2**64

    def mixed(word):
        word %= words
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % words
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % words
        return word ^ (word >> 31)

    counter = (step + 1) * 0x9E3779B97F4A7C15 + draw * 0xD1B54A32D192ED03
    return (mixed(seed * 0x9E3779B97F4A7C15 + mixed(counter)) >> 11) / 2**53
