"""Draws follow the distribution, exactly at the edges."""

import numpy as np
import pytest
import torch
from scipy import stats

from gibbsian.sampling import draw
from tests.oracles import sampling as oracle
from tests.sampling.cases import rows
from tests.tolerances import GOODNESS_OF_FIT_FAILURE_RATE


@pytest.mark.parametrize("states", [1, 7, 256, 257, 1000])
def test_the_inverse_of_the_cumulative_distribution(states):
    logits = torch.randn(5, states, dtype=torch.float64)
    logits[1, : states // 2] = -torch.inf
    uniform = torch.rand(5, 40, dtype=torch.float64)
    tokens = draw(logits, uniform)
    for i in range(5):
        weights = oracle.probabilities(logits[i].numpy())
        expected = [oracle.inverse_cdf(weights, float(u)) for u in uniform[i]]
        assert tokens[i].tolist() == expected


@pytest.mark.parametrize("states", [10, 600])
def test_goodness_of_fit(states):
    count = 200_000
    logits = torch.randn(1, states) * 2
    uniform = torch.rand(1, count, dtype=torch.float64)
    counts = np.bincount(draw(logits, uniform)[0].numpy(), minlength=states)
    expected = oracle.probabilities(logits[0].numpy()) * count
    large = expected > 10
    observed = np.append(counts[large], counts[~large].sum())
    wanted = np.append(expected[large], expected[~large].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    p_value = stats.chisquare(observed, wanted).pvalue
    assert p_value > GOODNESS_OF_FIT_FAILURE_RATE


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_without_probability_is_never_drawn(uniform):
    logits = rows(states=1000)
    logits[:, 0] = logits[:, -1] = -torch.inf
    logits[3, 500] = 1.0
    tokens = draw(logits, torch.full((12, 1), uniform, dtype=torch.float64))
    assert (logits.gather(-1, tokens) > -torch.inf).all()


def test_tokens_of_probability_below_float32_s_resolution_keep_their_share():
    logits = torch.zeros(1, 300_001)
    logits[0, 0] = 19.0
    share = 300_000 / (300_000 + np.exp(19.0))
    uniform = torch.rand(1, 100_000, dtype=torch.float64)
    tail = int((draw(logits, uniform) > 0).sum())
    p_value = stats.binomtest(tail, 100_000, share).pvalue
    assert p_value > GOODNESS_OF_FIT_FAILURE_RATE
