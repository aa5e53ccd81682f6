"""The rows' random streams: uniform, independent, and nobody else's."""

import numpy as np
import pytest
import torch
from scipy import stats

from gibbsian.sampling import row_seeds, uniforms
from tests.oracles import sampling as oracle
from tests.tolerances import GOODNESS_OF_FIT_FAILURE_RATE

COUNT = 40_000


def stream(seed, count=COUNT):
    steps = torch.arange(count)
    return uniforms(torch.full((count,), seed), steps)[:, 0].numpy()


def test_seed_0_does_not_begin_with_the_number_0():
    assert stream(row_seeds(0, 1, "cpu").item(), 1)[0] > 1e-6


def test_one_row_s_stream_is_uniform():
    for seed in (0, 1, 2**62 + 5, -3):
        numbers = stream(seed)
        assert numbers.min() >= 0
        assert numbers.max() < 1
        assert stats.kstest(numbers, "uniform").pvalue > GOODNESS_OF_FIT_FAILURE_RATE


def test_the_rows_of_one_step_are_uniform():
    seeds = row_seeds(7, COUNT, "cpu")
    numbers = uniforms(seeds, torch.zeros(COUNT, dtype=torch.int64))[:, 0].numpy()
    assert stats.kstest(numbers, "uniform").pvalue > GOODNESS_OF_FIT_FAILURE_RATE


def test_consecutive_numbers_rows_and_draws_are_independent():
    seeds, steps = torch.arange(COUNT), torch.arange(COUNT)
    zeros = torch.zeros_like(steps)
    for pair in (
        (stream(3)[:-1], stream(3)[1:]),
        (stream(3), stream(4)),
        (uniforms(seeds, zeros)[:-1, 0].numpy(), uniforms(seeds, zeros)[1:, 0].numpy()),
        tuple(uniforms(zeros, steps, 2).numpy().T),
        (uniforms(zeros, steps)[:, 0].numpy(), uniforms(steps, zeros)[:, 0].numpy()),
    ):
        table = np.histogram2d(*pair, bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(table.ravel()).pvalue > GOODNESS_OF_FIT_FAILURE_RATE


def test_low_bits_are_uniform_too():
    bits = (stream(11) * 2**53).astype(np.int64) & 15
    counts = np.bincount(bits, minlength=16)
    assert stats.chisquare(counts).pvalue > GOODNESS_OF_FIT_FAILURE_RATE


def test_the_first_numbers_do_not_depend_on_how_many_are_asked_for():
    seeds, steps = row_seeds(5, 9, "cpu"), torch.arange(9)
    assert torch.equal(uniforms(seeds, steps, 4)[:, :1], uniforms(seeds, steps))


def test_row_seeds_do_not_depend_on_the_batch_and_differ():
    assert torch.equal(row_seeds(5, 9, "cpu")[:4], row_seeds(5, 4, "cpu"))
    assert len(set(row_seeds(5, 1000, "cpu").tolist() + row_seeds(6, 1000, "cpu").tolist())) == 2000


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (1, 5), (-1, 10**12), (2**63 - 1, 3)])
def test_the_numbers_are_those_of_the_documented_hash(seed, step):
    numbers = uniforms(torch.tensor([seed]), torch.tensor([step]), 3)[0]
    assert numbers.tolist() == [oracle.uniform(seed, step, draw) for draw in range(3)]
