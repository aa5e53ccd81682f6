"""n-point functions of one row in mpmath: derivatives by finite differences of high precision."""

import itertools

import mpmath


def _weights(scores, zeta):
    top = max(scores)
    if zeta == 0:
        powers = [mpmath.exp(s - top) for s in scores]
        total = mpmath.fsum(powers)
        return [w / total for w in powers]

    def deformed(u):
        base = 1 + zeta * u
        return base ** (1 / zeta) if base > 0 else mpmath.mpf(0)

    low, high = top, top + (1 - mpmath.mpf(len(scores)) ** (-zeta)) / zeta
    for _ in range(int(mpmath.mp.dps * 3.4)):
        middle = (low + high) / 2
        if mpmath.fsum(deformed(s - middle) for s in scores) > 1:
            low = middle
        else:
            high = middle
    return [deformed(s - low) for s in scores]


def moment(scores, observables):
    """<a b ...> of a softmax row."""
    with mpmath.workdps(30):
        weights = _weights([mpmath.mpf(float(s)) for s in scores], mpmath.mpf(0))
        terms = []
        for j, weight in enumerate(weights):
            term = weight
            for observable in observables:
                term *= mpmath.mpf(float(observable[j]))
            terms.append(term)
        return float(mpmath.fsum(terms))


def connected(scores, observables, zeta, digits=80):
    """The mixed derivative of the potential in one source for each observable.

    Its gradient <a> is differenced centrally in the sources of the others, with steps so small, and
    so many digits, that only rounding to float64 is left.
    """
    with mpmath.workdps(digits):
        x = [mpmath.mpf(float(s)) for s in scores]
        z = mpmath.mpf(float(zeta))
        columns = [[mpmath.mpf(float(v)) for v in o] for o in observables]
        step = mpmath.mpf(10) ** -12
        total = mpmath.mpf(0)
        for signs in itertools.product((1, -1), repeat=len(columns) - 1):
            moved = [
                s + step * mpmath.fsum(g * c[j] for g, c in zip(signs, columns[1:], strict=True))
                for j, s in enumerate(x)
            ]
            weights = _weights(moved, z)
            mean = mpmath.fsum(w * a for w, a in zip(weights, columns[0], strict=True))
            total += mean * mpmath.fprod(signs)
        return float(total / (2 * step) ** (len(columns) - 1))
