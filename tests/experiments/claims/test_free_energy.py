"""Identities of the free energy, and samplers at equal entropy."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from gibbsian.experiments.claims import free_energy
from gibbsian.experiments.claims.free_energy import identities, looked_at, on_the_curve, samplers
from gibbsian.experiments.claims.next_tokens import READ, Window
from gibbsian.sampling.filters import MinP
from gibbsian.statistics import gibbs_statistics
from tests.oracles import sampler_claims as oracle


@pytest.fixture(scope="module")
def logits():
    generator = torch.Generator().manual_seed(0)
    rows = 3 * torch.randn(8, 500, generator=generator, dtype=torch.float64)
    return rows.sort(dim=-1, descending=True).values


def test_the_identities_hold_on_random_rows(logits):
    found = identities(logits)
    assert found["F - (U - T S)"] < free_energy.EXACT
    assert found["how far F lies outside [E₀ - T log n, E₀]"] < free_energy.EXACT
    assert found["S + dF/dT"] < free_energy.DERIVED
    assert found["share of rows whose optimum differs at T = 0.01"] == 0
    gaps = [found[f"E₀ - F at T = {t:g}"] for t in free_energy.COLD]
    assert all(a > b >= 0 for a, b in pairwise(gaps))


@pytest.mark.parametrize("wrong", ["sign", "scale"])
def test_a_wrong_free_energy_is_found(wrong, logits, monkeypatch):
    def broken(rows, *, temperature):
        found = gibbs_statistics(rows, temperature=temperature)
        # S = log Z + beta U: both are shifted alike, and the free energy with them
        shift = 1e-5 * temperature if wrong == "scale" else 2 * found.free_energy
        return dataclasses.replace(found, min_entropy=found.min_entropy + shift)

    monkeypatch.setattr(free_energy, "gibbs_statistics", broken)
    found = identities(logits)
    assert found["F - (U - T S)"] > free_energy.EXACT


def test_what_is_looked_at_is_that_of_the_definitions(logits):
    rank = torch.tensor([0, 1, 2, 5, 20, 100, 300, 499])
    found = looked_at(Window(logits=logits, rank=rank, source=READ), MinP(min_p=0.1))
    for i, row in enumerate(logits.tolist()):
        p = oracle.softmax(row)
        q = oracle.min_p(p, 0.1)
        kept = q > 0
        expected = {
            "entropy": -sum(v * math.log(v) for v in q if v > 0),
            "log p": sum(b * math.log(a) for a, b in zip(p, q, strict=True)),
            "loss": -math.log(0.9 * q[rank[i]] + 0.1 * p[rank[i]]),
            "covered": float(kept[rank[i]]),
            "size": kept.sum(),
            "cut": p[~kept].sum(),
            "moved": oracle.total_variation(p, q),
            "rare": q[p < 1e-3].sum(),
        }
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected)


def test_the_entropy_left_rises_with_every_knob(logits):
    for name, make in samplers().items():
        left = []
        for knob in (0.0, 0.15, 0.3, 0.6, 1.0):
            q = make(knob)(logits).softmax(-1)
            left.append(torch.special.entr(q).sum(-1).mean().item())
        assert left == sorted(left), name
        assert left[0] < 0.2, name


def test_samplers_are_compared_at_the_rival_s_entropy():
    # y = 3 x: at x = 1.5 it has 4.5, whatever the two points on the line
    curve, rival = np.array([[1.0, 3.0], [1.2, 3.6]]), np.array([1.5, 4.0])
    assert on_the_curve(curve, rival) == pytest.approx(0.5)
    assert on_the_curve(np.stack([curve] * 3), np.stack([rival] * 3)) == pytest.approx([0.5] * 3)
