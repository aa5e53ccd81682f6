"""Entmax of one row: bisection on the level in float64, closed forms in mpmath.

The unknown is the level c itself and the method bisection, unlike the package, which runs Newton's
method on the largest log-probability.
"""

import mpmath
import numpy as np


def log_deformed_exp(u, zeta):
    """log exp_zeta(u) for u in (-inf, 0], -inf where the deformed exponential is cut off."""
    if zeta == 0:
        return u
    inside = zeta * u > -1
    return np.where(inside, np.log1p(np.where(inside, zeta * u, 0.0)) / zeta, -np.inf)


def level(scores, zeta):
    """The level c relative to the largest score, by bisection between its bounds."""
    y = np.asarray(scores, dtype=np.float64)
    y = y - y.max()
    low, high = 0.0, np.log(y.size) if zeta == 0 else -np.expm1(-zeta * np.log(y.size)) / zeta
    for _ in range(60):
        middle = (low + high) / 2
        if np.exp(log_deformed_exp(y - middle, zeta)).sum() > 1:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def probabilities(scores, zeta):
    """Entmax of one row of finite scores, float64."""
    y = np.asarray(scores, dtype=np.float64)
    y = y - y.max()
    p = np.exp(log_deformed_exp(y - level(y, zeta), zeta))
    return p / p.sum()


def zeta_derivative(scores, zeta):
    """dp/dzeta of one row of finite scores, float64, by implicit differentiation in c.

    At fixed c, d log p/dzeta = -u^2 g(zeta u) with u = x - c and
    g(t) = (log(1+t) - t/(1+t))/t^2 = sum_k (k+1)/(k+2) (-t)^k.
    """
    y = np.asarray(scores, dtype=np.float64)
    y = y - y.max()
    u = y - level(y, zeta)
    p = np.exp(log_deformed_exp(u, zeta))
    support = p > 0
    t = np.where(support, zeta * u, 0.0)
    series = sum((k + 1) / (k + 2) * (-t) ** k for k in range(12))
    far = np.where(np.abs(t) < 0.05, 1.0, t)
    closed = (np.log1p(far) - far / (1 + far)) / far**2
    at_fixed_level = np.where(support, -p * u**2 * np.where(np.abs(t) < 0.05, series, closed), 0.0)
    slope = np.where(support, p / (1 + t), 0.0)
    return at_fixed_level - slope / slope.sum() * at_fixed_level.sum()


def exact(scores, zeta, digits=60):
    """(p, dp/dzeta, c) of a short row in mpmath, with the textbook closed forms.

    Sixty digits leave room for what (p - q)/zeta^2 cancels at zeta = 1e-8.
    """
    with mpmath.workdps(digits):
        x = [mpmath.mpf(float(s)) for s in scores]
        z = mpmath.mpf(float(zeta))
        top, n = max(x), len(x)
        if z == 0:
            c = top + mpmath.log(mpmath.fsum(mpmath.exp(s - top) for s in x))
            p = [mpmath.exp(s - c) for s in x]
        else:

            def deformed(u):
                base = 1 + z * u
                return base ** (1 / z) if base > 0 else mpmath.mpf(0)

            low, high = top, top + (1 - mpmath.mpf(n) ** (-z)) / z
            for _ in range(int(digits * 3.4)):
                middle = (low + high) / 2
                if mpmath.fsum(deformed(s - middle) for s in x) > 1:
                    low = middle
                else:
                    high = middle
            c = (low + high) / 2
            p = [deformed(s - c) for s in x]
        logs = [mpmath.log(w) if w > 0 else mpmath.mpf(0) for w in p]
        if z == 0:
            square = mpmath.fsum(w * v**2 for w, v in zip(p, logs, strict=True))
            dp = [w * (square - v**2) / 2 for w, v in zip(p, logs, strict=True)]
        else:
            s = [w ** (1 - z) if w > 0 else mpmath.mpf(0) for w in p]
            total = mpmath.fsum(s)
            q = [v / total for v in s]
            mean = mpmath.fsum(w * v for w, v in zip(p, logs, strict=True))
            dp = [
                (w - e) / z**2 - (w * v - e * mean) / z for w, e, v in zip(p, q, logs, strict=True)
            ]
        return (
            np.array([float(w) for w in p]),
            np.array([float(d) for d in dp]),
            float(c),
        )


def tsallis_entropy(p, zeta):
    """H_zeta(p) = sum (p - p^(1+zeta)) / (zeta (1+zeta)); Shannon's at zeta = 0."""
    p = np.asarray(p, dtype=np.float64)
    p = p[p > 0]
    if zeta == 0:
        return float(-(p * np.log(p)).sum())
    return float(-(p * np.expm1(zeta * np.log(p))).sum() / (zeta * (1 + zeta)))


def potential(scores, zeta):
    """Phi_zeta = <p, x> + H_zeta(p) at the maximiser."""
    x = np.asarray(scores, dtype=np.float64)
    p = probabilities(x, zeta)
    return float((p * (x - x.max())).sum() + x.max() + tsallis_entropy(p, zeta))


def shannon_entropy(p):
    p = np.asarray(p, dtype=np.float64)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
