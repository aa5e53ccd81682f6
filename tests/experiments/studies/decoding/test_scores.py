"""Scores of continuations against hand-made cases, the second model against exact fractions."""

import math
import zlib
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from gibbsian._errors import ArgumentError
from gibbsian.experiments.studies.decoding.ngrams import KneserNey
from gibbsian.experiments.studies.decoding.scores import (
    SCALES,
    compressed,
    distance,
    loops,
    overlap,
    repeated,
    scores_of,
)
from gibbsian.experiments.studies.decoding.tasks import Problem, right


def test_repetition_by_hand():
    assert repeated([1, 2, 3, 4], 2) == 0
    # 12 23 31 12 23: three of five are new
    assert repeated([1, 2, 3, 1, 2, 3], 2) == pytest.approx(2 / 5)
    assert repeated([7] * 9, 4) == pytest.approx(5 / 6)
    assert repeated([1, 2], 4) == 0


def test_loops_by_hand():
    assert loops([9, 1, 2, 1, 2, 1, 2])
    assert not loops([9, 1, 2, 1, 2])
    assert not loops([1, 2, 1, 2, 1, 2, 9])
    assert loops([5, 5, 5])
    assert not loops([5, 5])
    assert loops(list(range(16)) * 3)
    assert not loops(list(range(17)) * 3)


def test_overlap_by_hand():
    assert overlap([1, 2, 3, 4], [[9, 2, 3, 9], [3, 4]], 2) == pytest.approx(2 / 3)
    assert overlap([1, 2], [[1, 2]], 3) == 0


def test_compression_is_zlib_s():
    text = "to be or not to be, " * 9 + "é"
    assert compressed(text) == len(zlib.compress(text.encode(), 9)) / len(text.encode())
    assert compressed("") == 0


def test_the_distance_is_the_mean_of_its_parts():
    human = dict.fromkeys(SCALES, 0.3)
    assert distance(human, human) == 0
    for name, scale in SCALES.items():
        for sign in (-1, 1):
            there = human | {name: 0.3 + sign * scale}
            assert distance(there, human) == pytest.approx(1 / len(SCALES))


def exact(texts, vocabulary, order):
    """Interpolated modified Kneser-Ney, from its definition, in fractions; by no counts kept."""
    grams = [tuple(t[i : i + order]) for t in texts for i in range(len(t) - order + 1)]

    def counts(k):
        if k == order:
            return Counter(grams)
        return Counter(gram[1:] for gram in counts(k + 1))

    def discounts(k):
        n = Counter(counts(k).values())
        if 0 in (n[1], n[2], n[3], n[4]):
            return [Fraction(1, 2)] * 3
        y = Fraction(n[1], n[1] + 2 * n[2])
        found = [1 - 2 * y * Fraction(n[2], n[1])]
        found.append(2 - 3 * y * Fraction(n[3], n[2]))
        found.append(3 - 4 * y * Fraction(n[4], n[3]))
        return [min(max(d, Fraction(0)), Fraction(i + 1)) for i, d in enumerate(found)]

    def p(k, history, token):
        if k == 0:
            return Fraction(1, vocabulary)
        lower = p(k - 1, history[1:], token)
        here = {g[-1]: c for g, c in counts(k).items() if g[:-1] == history}
        if not here:
            return lower
        total, d = sum(here.values()), discounts(k)
        kept = max(here[token] - d[min(here[token], 3) - 1], 0) if token in here else 0
        spared = sum(d[min(c, 3) - 1] for c in here.values())
        return (kept + spared * lower) / total

    return p


def made_texts(seed, number=6, length=120, tokens=7):
    source = np.random.default_rng(seed)
    rows = source.dirichlet(np.full(tokens, 0.3), size=tokens)
    texts = []
    for _ in range(number):
        text = [0]
        while len(text) < length:
            text.append(int(source.choice(tokens, p=rows[text[-1]])))
        texts.append(text)
    return texts


@pytest.mark.parametrize("order", [2, 3])
def test_the_second_model_is_kneser_ney(order):
    texts = made_texts(order, tokens=30)
    model = KneserNey(texts, vocabulary=33, order=order)
    oracle = exact(texts, 33, order)
    source = np.random.default_rng(7)
    for _ in range(40):
        history = tuple(source.integers(33, size=order - 1).tolist())
        if source.random() < 0.7:
            text = texts[source.integers(len(texts))]
            at = source.integers(len(text) - order)
            history = tuple(text[at : at + order - 1])
        token = int(source.integers(33))
        expected = float(oracle(order, history, token))
        assert model.probability([5, *history], token) == pytest.approx(expected, rel=1e-12)


def test_the_second_model_s_probabilities_sum_to_one():
    model = KneserNey(made_texts(0), vocabulary=12)
    for history in ([], [1], [1, 2], [11, 11], [0, 11], [3, 0, 1]):
        total = sum(model.probability(history, token) for token in range(12))
        assert total == pytest.approx(1, abs=1e-12)
        assert all(model.probability(history, token) > 0 for token in range(12))


def test_losses_are_those_of_the_tokens_behind_the_context():
    model = KneserNey(made_texts(0), vocabulary=12)
    found = model.losses([4, 1, 2], [3, 0])
    expected = [model.probability([1, 2], 3), model.probability([2, 3], 0)]
    assert found == pytest.approx([-math.log(p) for p in expected])
    assert model.losses([], [3]) == pytest.approx([-math.log(model.probability([], 3))])


def test_bad_second_models():
    with pytest.raises(ArgumentError, match="`order`"):
        KneserNey([[1, 2]], vocabulary=3, order=1)
    with pytest.raises(ArgumentError, match="`texts`"):
        KneserNey([[1, 2]], vocabulary=3, order=3)


def test_all_scores_of_one_text():
    judge = KneserNey(made_texts(0), vocabulary=12)
    tokens = [1, 2, 3, 1, 2, 3, 1, 2, 3]
    found = scores_of([4, 5], tokens, "abcabcabc", judge)
    assert set(SCALES) < set(found)
    losses = judge.losses([4, 5], tokens)
    assert found["judge"] == pytest.approx(sum(losses) / 9)
    assert found["repeated_4_grams"] == pytest.approx(3 / 6)
    assert found["distinct_2_grams"] == pytest.approx(3 / 8)
    assert found["loops"] == 1


@pytest.mark.parametrize(
    ("text", "answer", "correct"),
    [
        ("2 + 5 = 7", "7", True),
        ("7 is not the answer, 8 is", "7", False),
        ("The answer is -3.", "-3", True),
        ("The answer is 3.", "-3", False),
        ("seven", "7", False),
        ("", "0", False),
        ("007", "7", True),
        ("17", "7", False),
    ],
)
def test_the_last_number_counts(text, answer, correct):
    assert right(Problem(question="?", answer=answer), text) is correct
