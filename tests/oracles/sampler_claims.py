"""Slow float64 forms of what the claims on samplers measure."""

import math

import numpy as np


def softmax(x):
    e = np.exp(np.asarray(x, float) - max(x))
    return e / e.sum()


def min_p(p, share):
    kept = [v if v >= share * max(p) else 0.0 for v in p]
    return np.array(kept) / sum(kept)


def top_p(p, mass):
    kept, total = [0.0] * len(p), 0.0
    for i in sorted(range(len(p)), key=lambda i: -p[i]):
        if total >= mass:
            break
        kept[i], total = p[i], total + p[i]
    return np.array(kept) / sum(kept)


def heated(p, temperature):
    q = np.array([v ** (1 / temperature) if v > 0 else 0.0 for v in p])
    return q / q.sum()


def target_entropy(p, entropy, hottest):
    """By bisection; no hotter than `hottest`."""
    low, high = 1e-3, hottest
    for _ in range(200):
        middle = (low + high) / 2
        q = heated(p, middle)
        s = -sum(v * math.log(v) for v in q if v > 0)
        low, high = (middle, high) if s < entropy else (low, middle)
    return heated(p, high)


def total_variation(p, q):
    return 0.5 * sum(abs(a - b) for a, b in zip(p, q, strict=True))


def redundancy(rows, first, second):
    alone = np.mean([total_variation(p, second(p)) for p in rows])
    after = np.mean([total_variation(first(p), second(first(p))) for p in rows])
    return 1 - after / alone


def jaccard(p, q):
    a, b = {i for i, v in enumerate(p) if v > 0}, {i for i, v in enumerate(q) if v > 0}
    return len(a & b) / len(a | b)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def hidden_markov(moves, emits, prefix):
    """Next-token distribution by a sum over all paths of hidden states."""
    states = range(len(moves))
    paths = [((s,), 1 / len(moves)) for s in states]
    for token in prefix:
        paths = [
            ((*path, s), weight * emits[path[-1]][token] * moves[path[-1]][s])
            for path, weight in paths
            for s in states
        ]
    total = np.zeros(len(emits[0]))
    for path, weight in paths:
        total += weight * np.asarray(emits[path[-1]])
    return total / total.sum()


def grammar(probs, allowed, follows, prefix):
    """Next-token distribution by reading the prefix with a stack, top at the end."""
    stack = [0]
    for token in prefix:
        if not allowed[stack[-1]][token]:
            continue
        top = stack.pop()
        stack += [s for s in reversed(follows[top][token]) if s >= 0]
        stack = stack or [0]
    return probs[stack[-1]]


def witten_bell(texts, prefix, tokens, past):
    """Interpolated n-gram distribution after a prefix, straight from the definition."""
    found = [1 / tokens] * tokens
    for k in range(min(past, len(prefix)) + 1):
        context = tuple(prefix[len(prefix) - k :])
        seen = [0] * tokens
        for text in texts:
            for i in range(k, len(text)):
                if tuple(text[i - k : i]) == context:
                    seen[text[i]] += 1
        total, kinds = sum(seen), sum(1 for s in seen if s)
        if total:
            found = [(s + kinds * f) / (total + kinds) for s, f in zip(seen, found, strict=True)]
    return found
