"""Row observables against whole matrices in NumPy, and their memory."""

import subprocess
import sys

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.observables import blocks, row_observables
from tests.observables.cases import CASES, build
from tests.oracles import rows as oracle
from tests.tolerances import (
    LONG_SEQUENCE_BYTES,
    assert_as_accurate_as,
    assert_identity,
    assert_same,
)

OWN = ("sink_mass", "diagonal_mass", "attended_distance")
STATISTICS = ("entropy", "varentropy", "third_cumulant", "log_partition", "free_energy")
STATISTICS += ("internal_energy", "effective_support", "normalized_entropy", "susceptibility")


def flattened(observed):
    found = {name: getattr(observed, name) for name in OWN}
    return found | {name: getattr(observed.statistics, name) for name in STATISTICS}


@pytest.mark.parametrize("name", CASES)
def test_float64_is_the_oracle(name, monkeypatch):
    query, key, options, seen = build(name)
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 200)  # several blocks, the last one shorter
    observed = flattened(row_observables(query, key, **options))
    expected = oracle.observables(query, key, seen=seen.numpy(), scale=options["scale"])
    for field, numbers in observed.items():
        assert_identity(numbers, torch.as_tensor(expected[field]))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", CASES)
def test_float32_is_as_accurate_as_plain_torch(name, backend):
    query, key, options, seen = build(name, torch.float32)
    observed = row_observables(query, key, backend=backend, **options)
    expected = oracle.observables(query, key, seen=seen.numpy(), scale=options["scale"])
    scores = row_observables(query, key, backend="reference", **options)
    # both terms of the distance are positions
    scales = {"attended_distance": 4.0 * key.shape[2], "sink_mass": 1.0, "diagonal_mass": 1.0}
    for field in OWN:
        actual = getattr(observed, field)
        assert actual.dtype == torch.float32
        truth = torch.as_tensor(expected[field])
        # a score of s rounds by eps s, and so does the logarithm of a weight
        largest = (query.abs().max() * key.abs().max()).item() * query.shape[-1]
        scale = scales[field] * (1 + largest * (options["scale"] or 0.35))
        assert_as_accurate_as(actual, getattr(scores, field), truth, scale=scale)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    query, key, options, _ = build("grouped", dtype)
    observed = flattened(row_observables(query, key, **options))
    wide = flattened(row_observables(query.float(), key.float(), **options))
    for field, numbers in observed.items():
        assert numbers.dtype == torch.float32
        assert torch.equal(numbers, wide[field]), field


def test_autocast_changes_nothing():
    query, key, options, _ = build("causal", torch.float32)
    outside = flattened(row_observables(query, key, **options))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = flattened(row_observables(query, key, **options))
    for field, numbers in inside.items():
        assert torch.equal(numbers, outside[field]), field


def test_rows_without_keys_are_zero():
    query, key, options, seen = build("any mask")
    empty = ~seen.any(dim=-1)
    assert empty.any()
    observed = row_observables(query, key, **options)
    for field in OWN:
        assert (getattr(observed, field)[empty] == 0).all()
        assert getattr(observed, field).isfinite().all()


@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (3, 0)])
def test_no_query_or_no_key(queries, keys):
    observed = row_observables(torch.randn(1, 2, queries, 4), torch.randn(1, 2, keys, 4))
    for numbers in flattened(observed).values():
        assert numbers.shape == (1, 2, queries)
    assert (observed.sink_mass == 0).all()


def test_the_sink_is_the_first_key_that_is_seen():
    query, key = torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 4, 4)
    mask = torch.tensor([[False, True, True, False], [False, False, False, True], [True] * 4])
    observed = row_observables(query, key, mask=mask)
    assert_same(observed.sink_mass[0, 0], torch.tensor([0.5, 1.0, 0.25]))
    assert_same(observed.diagonal_mass[0, 0], torch.tensor([0.0, 0.0, 0.25]))


def test_scores_of_any_offset_keep_the_masses():
    query, key, *_ = build("plain")
    query = torch.cat([query, torch.ones_like(query[..., :1])], dim=-1)
    near = row_observables(query, torch.cat([key, 0 * key[..., :1]], dim=-1), scale=1.0)
    far = row_observables(query, torch.cat([key, 0 * key[..., :1] + 1e4], dim=-1), scale=1.0)
    for field in OWN:
        # adding 1e4 rounds each score by 1e-12
        assert_identity(getattr(far, field), getattr(near, field), scale=1e3)


def test_no_graph_is_kept():
    query, key, options, _ = build("causal")
    observed = flattened(row_observables(query.requires_grad_(), key, **options))
    assert not any(numbers.requires_grad for numbers in observed.values())


def test_heads_that_do_not_divide_are_named():
    with pytest.raises(ArgumentError, match="`key` must have the heads of `query`"):
        row_observables(torch.randn(1, 2, 3, 4), torch.randn(1, 1, 3, 4))


PEAK = """
import torch
from gibbsian.experiments.bench.memory import peak_bytes, reset_peak
from gibbsian.observables import row_observables
torch.set_num_threads(1)
def run(length):
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, length, 16)
    return row_observables(query, key, is_causal={causal}, backend={backend!r})
run(256)
before = reset_peak()
run({length})
print(peak_bytes() - before)
"""


@pytest.mark.parametrize(
    ("backend", "length", "causal"),
    [("cpu", 16384, True), ("cpu", 16384, False), ("reference", 16384, True)],
)
def test_memory_is_linear_in_the_length(backend, length, causal):
    code = PEAK.format(backend=backend, length=length, causal=causal)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= LONG_SEQUENCE_BYTES
