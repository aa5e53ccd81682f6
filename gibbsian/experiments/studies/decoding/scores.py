"""Scores of a continuation: repetition, diversity, compression, the second model."""

import zlib
from collections.abc import Mapping, Sequence

from gibbsian.experiments.studies.decoding.ngrams import KneserNey

SCALES: Mapping[str, float] = {
    "judge": 0.5,
    "repeated_4_grams": 0.1,
    "compressed": 0.05,
    "distinct_2_grams": 0.1,
}
"""The scores in the distance from human text, and the difference that counts as 1."""

_LONGEST_LOOP = 16
_ROUNDS = 3


def ngrams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """All of them, in order."""
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def repeated(tokens: Sequence[int], n: int) -> float:
    """Share of n-grams that stood in the text before; 0 for a text without any."""
    grams = ngrams(tokens, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def compressed(text: str) -> float:
    """Bytes after zlib over bytes before; 0 for an empty text."""
    raw = text.encode()
    return len(zlib.compress(raw, 9)) / len(raw) if raw else 0.0


def loops(tokens: Sequence[int]) -> bool:
    """Whether the text ends in a stretch of at most 16 tokens, at least three times."""
    return any(
        list(tokens[-_ROUNDS * n :]) == list(tokens[-n:]) * _ROUNDS
        for n in range(1, min(_LONGEST_LOOP, len(tokens) // _ROUNDS) + 1)
    )


def overlap(tokens: Sequence[int], others: Sequence[Sequence[int]], n: int) -> float:
    """Share of a text's different n-grams that stand in one of the others; 0 without any."""
    own = set(ngrams(tokens, n))
    elsewhere = {gram for other in others for gram in ngrams(other, n)}
    return len(own & elsewhere) / len(own) if own else 0.0


def scores_of(
    prompt: Sequence[int], tokens: Sequence[int], text: str, judge: KneserNey
) -> dict[str, float]:
    """All scores of one continuation."""
    losses = judge.losses(prompt, tokens)
    return {
        "judge": sum(losses) / len(losses),
        "repeated_4_grams": repeated(tokens, 4),
        "compressed": compressed(text),
        "distinct_2_grams": 1 - repeated(tokens, 2),
        "loops": float(loops(tokens)),
    }


def distance(means: Mapping[str, float], human: Mapping[str, float]) -> float:
    """Mean over the scores of the absolute difference from human text, each over its scale."""
    parts = [abs(means[name] - human[name]) / scale for name, scale in SCALES.items()]
    return sum(parts) / len(parts)
