"""Sources with a known truth, their models, and what samplers gain on them."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from gibbsian.experiments.claims import imperfect, known_truth, truths
from gibbsian.experiments.claims.known_truth import DRIVEN, PLAIN, benefits, divergences
from tests.oracles import sampler_claims as oracle


@pytest.mark.parametrize("source", truths.SOURCES)
def test_texts_are_drawn_from_the_truth_that_is_told(source):
    tokens, truth = source(1).texts(400, 30, np.random.default_rng(0))
    assert truth.sum(-1) == pytest.approx(1.0)
    assert truth.min() > 1e-4
    # of the tokens taken each has mean surprisal the entropy
    taken = np.take_along_axis(truth, tokens[..., None], -1)[..., 0]
    entropy = -(truth * np.log(truth)).sum(-1)
    gap = -np.log(taken) - entropy
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(gap.size)
    counts = np.bincount(tokens.ravel(), minlength=truths.TOKENS)
    expected = truth.sum(axis=(0, 1))
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected.max())


def test_the_chain_looks_at_two_tokens():
    source = truths.Markov(2)
    tokens, truth = source.texts(3, 6, np.random.default_rng(0))
    for t in range(2, 6):
        assert np.array_equal(truth[0, t], source.rows[tokens[0, t - 2], tokens[0, t - 1]])


def test_the_hidden_chain_sums_over_all_paths():
    class Small(truths.HiddenMarkov):
        states = 3

    source = Small(4)
    tokens, truth = source.texts(2, 5, np.random.default_rng(0))
    for row in range(2):
        for t in range(5):
            expected = oracle.hidden_markov(source.moves, source.emits, tokens[row, :t])
            assert truth[row, t] == pytest.approx(expected)


def test_the_grammar_reads_with_a_stack():
    source = truths.Grammar(0)
    tokens, truth = source.texts(40, 40, np.random.default_rng(0))
    highest = 0
    for row in range(40):
        for t in range(40):
            expected = oracle.grammar(
                source.probs, source.allowed, source.follows.tolist(), tokens[row, :t]
            )
            assert np.array_equal(truth[row, t], expected)
        highest = max(highest, len({tuple(r) for r in truth[row]}))
    # more than one symbol is met
    assert highest > 2


def test_counts_are_those_of_witten_and_bell():
    rng = np.random.default_rng(0)
    texts = rng.integers(4, size=(6, 12))
    read = rng.integers(4, size=(3, 12))
    found = imperfect.counted(texts, read)
    for row in range(3):
        for t in range(12):
            expected = oracle.witten_bell(
                texts.tolist(), read[row, :t].tolist(), truths.TOKENS, imperfect._PAST
            )
            assert found[row, t] == pytest.approx(expected)


def test_models_get_better():
    source = truths.Markov(0)
    read, truth = source.texts(16, imperfect.LENGTH, np.random.default_rng(0))

    def error(model):
        assert model.sum(-1) == pytest.approx(1.0)
        return (truth * np.log(truth / model)).sum(-1).mean()

    rng = np.random.default_rng(1)
    texts, _ = source.texts(1000, imperfect.LENGTH, rng)
    for errors in (
        [error(imperfect.mixed(truth, s)) for s in imperfect.SHARES],
        [error(imperfect.scattered(truth, s, rng)) for s in imperfect.SPREADS],
        [error(imperfect.counted(texts[:n], read)) for n in (10, 100, 1000)],
        [error(q) for q in imperfect.trained(source, read, (0, 10, 60), 0)],
    ):
        assert all(a > b > 0 for a, b in pairwise(errors)), errors


def test_divergences_are_those_of_the_definitions():
    p = np.array([0.5, 0.3, 0.2])
    q = np.array([0.7, 0.3, 0.0])
    found = {
        k: v.item() for k, v in divergences(*(torch.from_numpy(x[None]) for x in (p, q))).items()
    }
    assert found["reverse KL"] == pytest.approx(oracle.kl(q, p))
    assert found["total variation"] == pytest.approx(oracle.total_variation(p, q))
    middle = (p + q) / 2
    both = (oracle.kl(p, middle) + oracle.kl(q, middle)) / 2
    assert found["Jensen-Shannon"] == pytest.approx(both)
    assert found["cross entropy"] == pytest.approx(
        -sum(a * math.log(b) for a, b in zip(q, p, strict=True))
    )


def test_benefits_are_found_where_they_are_and_nowhere_else():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([0.2] * 24, 400) * 0.99 + 0.01 / 24
    perfect = benefits(truth, truth)
    assert perfect["KL"] == pytest.approx(0.0)
    for measure in ("reverse KL", "total variation", "Jensen-Shannon"):
        assert perfect["benefit"][measure][DRIVEN] == pytest.approx(0.0, abs=1e-9)
        assert perfect["default"][measure]["min-p"] < 0
    # a greedy sampler has the least cross entropy, whatever the model
    assert perfect["benefit"]["cross entropy"][PLAIN] > 0.1
    noisy = benefits(truth, imperfect.mixed(truth, 0.5))
    assert noisy["benefit"]["reverse KL"]["min-p"] > 0.3 * noisy["of model"]["reverse KL"]
    assert noisy["benefit"]["reverse KL"][PLAIN] >= 0.9 * max(
        noisy["benefit"]["reverse KL"][name] for name in ("min-p", "top-p", "temperature")
    )


def test_settings_are_tuned_on_the_first_half_alone():
    """On the second half the truth is the flat one, and what helped on the first harms."""
    rng = np.random.default_rng(0)
    sharp = rng.dirichlet([0.1] * 24, 200) * 0.99 + 0.01 / 24
    truth = np.concatenate([sharp, imperfect.mixed(sharp, 0.9)])
    model = np.concatenate([imperfect.mixed(sharp, 0.5)] * 2)
    found = benefits(truth, model)
    assert found["benefit"]["reverse KL"][PLAIN] < -0.05


def test_what_ties_on_tuning_is_not_decided_by_the_test():
    assert known_truth._tuned([(0.0, 0.0), (0.0, 0.3), (-1.0, 9.0)]) == 0.0
