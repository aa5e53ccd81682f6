"""Sparse rows against whole matrices in NumPy, the prediction against its own limit."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.attention import aes_attention
from gibbsian.normalizers import Constant, SmoothStep
from gibbsian.observables import blocks, sparsity_response
from tests.observables.cases import CASES, build
from tests.oracles import rows as oracle
from tests.tolerances import (
    ENTROPY_ERROR,
    FIRST_ORDER_REMAINDER,
    LONG_SEQUENCE_BYTES,
    assert_identity,
)

SCHEDULES = {
    "ramp": SmoothStep(low=0.2, high=0.9),
    "softmax": Constant(zeta=0.0),
    "middle": Constant(zeta=0.5),
    "sparsemax": Constant(zeta=1.0),
}


def expected(query, key, options, seen, zeta):
    p = oracle.weights(query, key, seen=seen.numpy(), scale=options["scale"], zeta=zeta.numpy())
    return torch.as_tensor(oracle.shannon(p)), torch.as_tensor((p > 0).sum(axis=-1))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", CASES)
def test_float64_is_the_oracle(name, schedule, monkeypatch):
    query, key, options, seen = build(name)
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 200)  # several blocks, the last one shorter
    found = sparsity_response(query, key, schedule=SCHEDULES[schedule], **options)
    entropy, support = expected(query, key, options, seen, found.zeta)
    assert_identity(found.entropy, entropy)
    assert torch.equal(found.support_size.long(), support)
    alive = support > 0
    assert_identity(found.effective_support[alive], entropy[alive].exp())
    assert (found.effective_support[~alive] == 0).all()
    assert (found.predicted_support[~alive] == 0).all()


@pytest.mark.parametrize("schedule", ["ramp", "sparsemax"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", CASES)
def test_float32(name, backend, schedule):
    query, key, options, seen = build(name, torch.float32)
    found = sparsity_response(query, key, schedule=SCHEDULES[schedule], backend=backend, **options)
    entropy, _ = expected(query, key, options, seen, found.zeta)
    assert found.entropy.dtype == torch.float32
    np.testing.assert_allclose(found.entropy, entropy, rtol=0, atol=ENTROPY_ERROR)
    _, statistics = aes_attention(
        query, key, key, schedule=SCHEDULES[schedule], return_statistics=True,
        backend=backend, **options,
    )  # fmt: skip
    assert torch.equal(found.support_size, statistics.support_size)
    assert torch.equal(found.zeta, statistics.zeta)


@pytest.mark.parametrize("length", [63, 64, 65, 1500])
def test_any_length_compiled(length):
    query, key = torch.randn(2, 1, 2, length, 16) * 1.5
    options = {"schedule": SmoothStep(low=0.4, high=1.0), "is_causal": True}
    found = sparsity_response(query, key, backend="cpu", **options)
    truth = sparsity_response(query.double(), key.double(), **options)
    np.testing.assert_allclose(found.entropy, truth.entropy, rtol=0, atol=20 * ENTROPY_ERROR)


def test_the_prediction_is_the_slope_at_zero():
    query, key, options, _ = build("causal")
    zeta = 1e-5
    found = sparsity_response(query, key, schedule=Constant(zeta=zeta), **options)
    removed = found.statistics.entropy - found.entropy
    predicted = found.statistics.entropy - found.predicted_support.log()
    assert (removed > 0).any()
    np.testing.assert_allclose(predicted, removed, rtol=FIRST_ORDER_REMAINDER, atol=zeta * 1e-4)


def test_half_precision_is_computed_in_float32():
    query, key, options, _ = build("grouped", torch.bfloat16)
    schedule = SCHEDULES["ramp"]
    found = sparsity_response(query, key, schedule=schedule, **options)
    wide = sparsity_response(query.float(), key.float(), schedule=schedule, **options)
    assert torch.equal(found.entropy, wide.entropy)


@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (3, 0)])
def test_no_query_or_no_key(queries, keys):
    query, key = torch.randn(1, 2, queries, 4), torch.randn(1, 2, keys, 4)
    found = sparsity_response(query, key, schedule=SCHEDULES["ramp"])
    for numbers in (found.entropy, found.effective_support, found.predicted_support):
        assert numbers.shape == (1, 2, queries)
        assert (numbers == 0).all()


def test_a_schedule_of_the_wrong_shape_is_named():
    query, key, options, _ = build("plain")
    with pytest.raises(ArgumentError, match="`schedule` must return"):
        sparsity_response(query, key, schedule=lambda s: s.entropy.new_ones(7), **options)


PEAK = """
import torch
from gibbsian.experiments.bench.memory import peak_bytes, reset_peak
from gibbsian.normalizers import SmoothStep
from gibbsian.observables import sparsity_response
torch.set_num_threads(1)
def run(length):
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, length, 16)
    sparsity_response(query, key, schedule=SmoothStep(), is_causal=True, backend={backend!r})
run(256)
before = reset_peak()
run(16384)
print(peak_bytes() - before)
"""


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_memory_is_linear_in_the_length(backend):
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(backend=backend)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) <= LONG_SEQUENCE_BYTES
