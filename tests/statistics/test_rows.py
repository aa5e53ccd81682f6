"""Statistics of logits are `gibbs_statistics`, by either backend, row by row."""

from dataclasses import fields

import pytest
import torch

from gibbsian.statistics import GibbsStatistics, gibbs_statistics, row_statistics
from tests.oracles import gibbs as oracle
from tests.sampling.cases import rows
from tests.tolerances import ENTROPY_ERROR, STATISTICS_RELATIVE_ERROR

FIELDS = tuple(field.name for field in fields(GibbsStatistics))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("states", [8, 1000, 5003])
def test_values(backend, states):
    logits = rows(states=states)
    logits[8] = -torch.inf
    statistics = row_statistics(logits, backend=backend)
    for i, row in enumerate(logits):
        expected = oracle.statistics(row.numpy())
        assert float(statistics.max_score[i]) == expected["max_score"]
        for name in ("min_entropy", "collision_entropy", "entropy"):
            assert abs(float(getattr(statistics, name)[i]) - expected[name]) <= ENTROPY_ERROR
        variance = expected["varentropy"]
        error = abs(float(statistics.varentropy[i]) - variance)
        assert error <= STATISTICS_RELATIVE_ERROR * variance + ENTROPY_ERROR**2
        assert float(statistics.num_states[i]) == expected["num_states"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_in_float32(dtype):
    logits = torch.randn(3, 50_000).to(dtype)
    statistics = row_statistics(logits)
    assert statistics.entropy.dtype == torch.float32
    exact = gibbs_statistics(logits.double()).entropy
    assert (statistics.entropy - exact).abs().max() <= ENTROPY_ERROR


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_has_the_same_numbers_in_any_batch(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    logits = rows(states=70_000)
    together = row_statistics(logits, backend="cpu")
    for i in range(len(logits)):
        alone = row_statistics(logits[i : i + 1], backend="cpu")
        for name in FIELDS:
            assert torch.equal(getattr(together, name)[i : i + 1], getattr(alone, name))
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(0, 5), (7,), (2, 3, 5), (2, 0)])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_shapes(shape, backend):
    statistics = row_statistics(torch.zeros(shape), backend=backend)
    assert statistics.entropy.shape == shape[:-1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_bad_score_stays_in_its_row(bad, backend):
    logits = torch.randn(3, 9)
    logits[1, 2] = bad
    statistics = row_statistics(logits, backend=backend)
    assert statistics.entropy.isnan().tolist() == [False, True, False]
    assert not bool(statistics.max_score[1].isfinite())
