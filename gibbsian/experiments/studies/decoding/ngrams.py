r"""An n-gram model with interpolated, modified Kneser-Ney smoothing: the second model.

$$p_k(w \mid h) = \frac{\max(c_k(h w) - D(c_k(h w)), 0)}{\sum_v c_k(h v)}
  + \gamma_k(h)\, p_{k-1}(w \mid h')$$

with c the counts at the highest order, below it the numbers of different tokens before; the
discounts $D(1), D(2), D(3+)$ from the counts of counts; below the first order the uniform
distribution.

Chen and Goodman 1999, An empirical study of smoothing techniques for language modeling.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from gibbsian._errors import ArgumentError

_Gram = tuple[int, ...]


class KneserNey:
    """A model of tokens by the ones before.

    Args:
        texts: sequences of tokens.
        vocabulary: number of tokens.
        order: tokens of the longest n-grams, at least 2.

    Raises:
        ArgumentError: an order below 2, or no text.
    """

    def __init__(self, texts: Iterable[Sequence[int]], *, vocabulary: int, order: int = 3) -> None:
        if order < 2:
            raise ArgumentError(f"`order` must be an integer >= 2, got {order}. 3 is a trigram.")
        counts: Counter[_Gram] = Counter()
        for text in texts:
            counts.update(tuple(text[i : i + order]) for i in range(max(len(text) - order + 1, 0)))
        if not counts:
            raise ArgumentError(f"`texts` must hold at least {order} tokens. Give more text.")
        self.order, self.vocabulary = order, vocabulary
        self._levels: list[_Level] = []
        for _ in range(order):
            self._levels.insert(0, _Level(counts))
            shorter: Counter[_Gram] = Counter()
            for gram in counts:
                shorter[gram[1:]] += 1
            counts = shorter

    def probability(self, context: Sequence[int], token: int) -> float:
        """Of the token behind the context, of which the last `order` - 1 tokens count."""
        p = 1.0 / self.vocabulary
        for k, level in enumerate(self._levels):
            if k > len(context):
                break
            history = tuple(context[len(context) - k :]) if k else ()
            p = level.interpolated(history, token, p)
        return p

    def losses(self, context: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """Surprisals of tokens behind a context, nats."""
        whole, start = [*context, *tokens], len(context)
        reach = self.order - 1
        return [
            -math.log(self.probability(whole[max(i - reach, 0) : i], whole[i]))
            for i in range(start, len(whole))
        ]


class _Level:
    """n-grams of one length."""

    def __init__(self, counts: Counter[_Gram]) -> None:
        self._counts = counts
        self._discounts = _discounts(counts)
        self._totals: defaultdict[_Gram, int] = defaultdict(int)
        self._spared: defaultdict[_Gram, float] = defaultdict(float)
        for gram, count in counts.items():
            self._totals[gram[:-1]] += count
            self._spared[gram[:-1]] += self._discount(count)

    def _discount(self, count: int) -> float:
        return self._discounts[min(count, 3) - 1]

    def interpolated(self, history: _Gram, token: int, lower: float) -> float:
        total = self._totals.get(history)
        if total is None:
            return lower
        count = self._counts.get((*history, token), 0)
        own = max(count - self._discount(count), 0.0) if count else 0.0
        return (own + self._spared[history] * lower) / total


def _discounts(counts: Counter[_Gram]) -> tuple[float, float, float]:
    """D(1), D(2), D(3+); a half each where there are too few n-grams to estimate them."""
    seen = Counter(min(count, 5) for count in counts.values())
    n1, n2, n3, n4 = (seen[k] for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return 0.5, 0.5, 0.5
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    # few n-grams can give a discount that is none
    return (
        min(max(found[0], 0.0), 1.0),
        min(max(found[1], 0.0), 2.0),
        min(max(found[2], 0.0), 3.0),
    )
