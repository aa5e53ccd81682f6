"""Samplers of equal strength, and what they do alone and one after another."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from gibbsian.experiments.claims.composition import composition
from gibbsian.experiments.claims.redundancy import agreement, redundancy, strengths
from gibbsian.experiments.claims.samplers import distance, families, followed, matched
from gibbsian.sampling.filters import MinP, Temperature, TopP
from gibbsian.sampling.policies import FreeEnergy
from tests.oracles import sampler_claims as oracle

STATES = 600
"""More than the length to which rows are cut."""


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(3)
    spread = torch.linspace(0.5, 6, 12, dtype=torch.float64)[:, None]
    x = spread * torch.randn(12, STATES, generator=generator, dtype=torch.float64)
    return x.sort(dim=-1, descending=True).values


def test_composition_is_that_of_the_definitions(rows):
    ours = {
        "min-p": MinP(min_p=0.05),
        "top-p": TopP(p=0.8),
        "temperature": Temperature(temperature=0.7),
        "capped": followed(FreeEnergy(target_entropy=1.5, hottest=1.0)),
    }
    theirs = [
        lambda p: oracle.min_p(p, 0.05),
        lambda p: oracle.top_p(p, 0.8),
        lambda p: oracle.heated(p, 0.7),
        lambda p: oracle.target_entropy(p, 1.5, 1.0),
    ]
    found = composition(rows, ours)
    probs = [oracle.softmax(row) for row in rows.tolist()]
    left = [[f(p) for p in probs] for f in theirs]
    for i, first in enumerate(theirs):
        expected = np.mean(
            [oracle.total_variation(p, q) for p, q in zip(probs, left[i], strict=True)]
        )
        assert found.effect[i] == pytest.approx(expected, abs=2e-4)
        assert found.kept[i] == np.mean([(q > 0).sum() for q in left[i]])
        for j, second in enumerate(theirs):
            by = redundancy(np.array(found.after), np.array(found.effect))[i, j]
            assert by == pytest.approx(oracle.redundancy(probs, first, second), abs=2e-3)
            apart = np.mean(
                [oracle.total_variation(a, b) for a, b in zip(left[i], left[j], strict=True)]
            )
            assert found.between[i][j] == pytest.approx(apart, abs=2e-4)
            both = np.mean([oracle.jaccard(a, b) for a, b in zip(left[i], left[j], strict=True)])
            assert found.overlap[i][j] == pytest.approx(both, abs=1e-6)


def test_redundancy_and_agreement_of_samplers_that_are_the_same_or_apart():
    effect = np.array([0.2, 0.2])
    nothing_left = redundancy(np.array([[0.0, 0.2], [0.0, -0.0]]), effect)
    assert nothing_left[0].tolist() == [1.0, 0.0]
    assert agreement(np.array([[0.0, 0.4], [0.4, 0.0]]), effect)[0].tolist() == [1.0, 0.0]
    # over resamples too
    assert redundancy(np.zeros((5, 2, 2)), np.ones((5, 2))).shape == (5, 2, 2)


def test_every_knob_starts_with_next_to_nothing_and_grows(rows):
    whole = rows.softmax(-1)
    for name, family in families().items():
        if not family.has_knob:
            continue
        effects = [
            distance(whole, family.make(knob)(rows).softmax(-1)).mean().item()
            for knob in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        assert effects[0] < 1e-3, name
        assert all(b >= a - 1e-6 for a, b in pairwise(effects)), (name, effects)
        assert effects[-1] > 0.3, name


def test_a_sampler_cuts_if_and_only_if_it_says_so(rows):
    for name, family in families().items():
        cuts = bool((family.make(0.6)(rows) == -torch.inf).any())
        # quadrants cut in some branches and are greedy in others
        assert cuts == family.cuts, name


def test_matched_finds_the_strength_or_says_that_there_is_none():
    assert matched(lambda t: t**3, 0.2, 1e-6) == pytest.approx(0.2 ** (1 / 3), abs=1e-4)
    # a staircase, as filters make on few rows
    found = matched(lambda t: round(20 * t) / 20, 0.5, 1e-6)
    assert round(20 * found) == 10
    assert matched(lambda t: 0.3 * t, 0.5, 1e-6) is None
    assert matched(lambda t: 0.6 + t, 0.5, 1e-6) is None


def test_strengths_are_equal_on_the_sample(rows):
    known = families()
    found = strengths(rows, known)
    whole = rows.softmax(-1)
    assert found["targets"]["effect 0.1"] == 0.1
    for level, knobs in found["levels"].items():
        assert {"min-p", "top-p", "temperature"} <= set(knobs)
        assert ("p-less" in knobs) == (level == "as p-less")
        assert ("quadrant" in knobs) == (level == "as quadrant")
        for name in ("top-p", "temperature", "edt", "free-energy"):
            if name in knobs:
                left = known[name].make(knobs[name])(rows).softmax(-1)
                effect = distance(whole, left).mean().item()
                assert effect == pytest.approx(found["targets"][level], rel=0.02), (level, name)
