"""Bootstrap, Holm, and the rule either way."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import bootstrap, false_discovery_control

from gibbsian.experiments.claims import answers
from gibbsian.experiments.studies.decoding.inference import (
    Difference,
    Resampled,
    corrected,
    difference,
    mean_difference,
    resampled,
    summarised,
    weights,
)


def accuracy(means, drawn):
    del drawn
    return means[:, 0]


def plain(rows, drawn):
    return resampled(np.array(rows, dtype=float)[:, None], drawn, accuracy)


def test_weights_are_those_of_a_bootstrap():
    drawn = weights(7, 500, seed=3)
    assert drawn.shape == (500, 7)
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    np.testing.assert_allclose((drawn * 7) % 1, 0, atol=1e-12)
    np.testing.assert_array_equal(drawn, weights(7, 500, seed=3))


def test_a_paired_interval_is_scipy_s():
    source = np.random.default_rng(0)
    ours = source.random(40)
    theirs = ours - 0.1 + 0.2 * source.standard_normal(40)
    drawn = weights(40, 10_000, seed=0)
    found = difference([plain(ours, drawn)], [plain(theirs, drawn)])
    expected = bootstrap(
        (ours - theirs,), np.mean, n_resamples=10_000, method="percentile", rng=source
    ).confidence_interval
    assert found.value == pytest.approx((ours - theirs).mean())
    assert found.low == pytest.approx(expected.low, abs=0.004)
    assert found.high == pytest.approx(expected.high, abs=0.004)


def test_subjects_have_equal_weight():
    first, second = weights(4, 100, 0), weights(2, 100, 1)
    ours = [plain([1, 1, 1, 1], first), plain([0, 0], second)]
    theirs = [plain([0, 0, 0, 0], first), plain([0, 0], second)]
    assert difference(ours, theirs).value == pytest.approx(0.5)
    assert difference(ours, theirs, sign=-1.0).value == pytest.approx(-0.5)
    third = [plain([1, 1, 0, 0], first), plain([1, 0], second)]
    mean = mean_difference([ours, third], theirs)
    assert mean.value == pytest.approx((0.5 + 0.5) / 2)
    samples = (
        (ours[0].samples + third[0].samples) / 2 + (ours[1].samples + third[1].samples) / 2
    ) / 2
    assert mean.low == pytest.approx(np.quantile(samples, 0.025))


def test_equal_methods_differ_by_nothing():
    found = summarised(0.0, np.zeros(1000))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_p_values_are_two_sided_and_never_zero():
    samples = np.concatenate([-np.ones(10), np.ones(990)])
    assert summarised(0.9, samples).p == pytest.approx(2 * 11 / 1001)
    assert summarised(-0.9, -samples).p == pytest.approx(2 * 11 / 1001)
    assert summarised(1.0, np.ones(999)).p == pytest.approx(2 / 1000)


def holm(p):
    """From the definition: reject while p_(k) <= alpha / (m - k + 1); the least such alpha."""
    order = np.argsort(p)
    result = np.empty(len(p))
    for k, i in enumerate(order):
        result[i] = max(min(1.0, p[j] * (len(p) - rank)) for rank, j in enumerate(order[: k + 1]))
    return result


def test_holm():
    p = [0.04, 0.001, 0.3, 0.02, 0.9]
    given = {
        str(i): Difference(value=1.0, low=0.5, high=1.5, p=x, corrected=x) for i, x in enumerate(p)
    }
    found = [d.corrected for d in corrected(given).values()]
    np.testing.assert_allclose(found, holm(np.array(p)))
    np.testing.assert_allclose(found, [0.12, 0.005, 0.6, 0.08, 0.9])
    # no false discovery rate, which is never larger
    assert all(np.array(found) >= false_discovery_control(p) - 1e-12)


def found_with(advantage, p, matched, mean=(0.0, -0.05, 0.05)):
    def one(value, low, high, corrected=1.0):
        return {"value": value, "low": low, "high": high, "p": corrected, "corrected": corrected}

    return answers.numbers_of(
        {
            "problems": 100,
            "mean": one(*mean),
            "tuned": {
                "edt": one(advantage, advantage - 0.02, advantage + 0.02, p),
                "aes": one(0.0, -0.02, 0.02),
            },
            "matched": {"edt": one(*matched), "aes": one(0.0, -0.02, 0.02)},
        }
    )


@pytest.mark.parametrize(
    ("advantage", "p", "matched", "mean", "verdict"),
    [
        (0.1, 0.01, (0.1, 0.02, 0.2), (0.0, -0.1, 0.1), "holds"),
        (0.1, 0.01, (0.1, -0.02, 0.2), (0.0, -0.1, 0.1), "holds with a correction"),
        (0.1, 0.06, (0.1, 0.02, 0.2), (0.0, -0.1, 0.1), "undecided"),
        (0.1, 0.06, (0.1, 0.02, 0.2), (-0.02, -0.05, 0.01), "does not hold"),
        (-0.1, 0.01, (0.1, 0.02, 0.2), (-0.02, -0.05, 0.01), "does not hold"),
        (-0.1, 0.01, (0.1, 0.02, 0.2), (-0.02, -0.05, 0.02), "undecided"),
    ],
)
def test_the_rule_says_each_verdict(advantage, p, matched, mean, verdict):
    found, why = answers.judge(found_with(advantage, p, matched, mean))
    assert found == verdict
    assert ("edt" in why) == verdict.startswith("holds")


def test_without_the_study_nothing_is_decided(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = answers.CLAIM.run("quick", 0)
    assert found.verdict == "undecided"
    assert "results/decoding.json" in found.missing


def test_samples_and_values_of_a_score():
    drawn = weights(3, 50, 0)
    found = plain([0, 1, 1], drawn)
    assert found.value == pytest.approx(2 / 3)
    np.testing.assert_allclose(found.samples, drawn[:, 1:].sum(axis=1))
    assert dataclasses.asdict(Resampled(value=1.0, samples=found.samples))["value"] == 1.0
