"""Decoding: the kernels against plain torch, the index against the keys, certificates."""

import contextlib
import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from gibbsian._errors import ArgumentError, BackendUnavailableError
from gibbsian.attention.aes import aes_attention
from gibbsian.attention.aes.certificates import certified_errors
from gibbsian.attention.aes.cpu.index_decode import decode_with_index
from gibbsian.attention.aes.decoding import aes_decode
from gibbsian.attention.aes.key_index import BLOCK, KeyIndex
from gibbsian.attention.cpu.few_queries import FewQueries, flat_mask
from gibbsian.attention.cpu.rows import StreamedRows
from gibbsian.attention.entmax import entmax_attention
from gibbsian.attention.gibbs import attention_row_statistics
from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.lln import lln_attention
from gibbsian.attention.rows import rows_of
from gibbsian.normalizers import entmax
from gibbsian.normalizers.schedules import Constant, Linear, SmoothStep, VarentropyBounds
from gibbsian.statistics import gibbs_statistics
from tests.tolerances import (
    ENTROPY_ERROR,
    IDENTITY,
    STATISTICS_RELATIVE_ERROR,
    assert_as_accurate_as,
)

BACKENDS = ("reference", "cpu")
SCHEDULES = (
    Linear(),
    SmoothStep(direction="concentrate_high", bounds=VarentropyBounds()),
    Constant(zeta=0.0),
    Constant(zeta=1.0),
)


def make(keys, *, spread=3.0, batch=2, heads=4, key_heads=2, queries=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query = spread * torch.randn(batch, heads, queries, 16, generator=generator)
    key = torch.randn(batch, key_heads, keys, 16, generator=generator)
    # what real keys are like: an offset and channels of different sizes
    key = key * torch.linspace(0.1, 3.0, 16) + torch.linspace(-2.0, 2.0, 16)
    value = torch.randn(batch, key_heads, keys, 24, generator=generator)
    return query, key, value


def doubles(*tensors):
    return (tensor.double() for tensor in tensors)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("keys", [1, 2, 63, 64, 65, 1000, 5000])
@pytest.mark.parametrize("backend", BACKENDS)
def test_decoding_is_adaptive_attention(backend, keys, schedule):
    inputs = make(keys, queries=3)
    arguments = {"schedule": schedule, "enable_gqa": True, "return_statistics": True}
    output, found = aes_decode(*inputs, backend=backend, **arguments)
    plain = aes_attention(*inputs, schedule=schedule, enable_gqa=True, backend="reference")
    oracle, expected = aes_attention(*doubles(*inputs), backend="reference", **arguments)
    assert_as_accurate_as(output, plain, oracle)
    torch.testing.assert_close(found.entropy.double(), expected.entropy, rtol=0, atol=ENTROPY_ERROR)
    torch.testing.assert_close(
        found.varentropy.double(),
        expected.varentropy,
        rtol=STATISTICS_RELATIVE_ERROR,
        atol=STATISTICS_RELATIVE_ERROR * 1e-3,
    )
    assert torch.equal(found.num_keys.double(), expected.num_keys)
    assert found.support_size.shape == expected.support_size.shape


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 300), (2, 1, 1, 300), (2, 4, 2, 300)])
@pytest.mark.parametrize("indexed", [False, True])
def test_masked_keys_are_absent(backend, shape, indexed):
    query, key, value = make(300, queries=2)
    mask = torch.rand(shape) > 0.4
    mask[..., 7] = True
    mask[0, 0, 0] = False
    index = KeyIndex(key) if indexed else None
    arguments = {"schedule": Linear(), "mask": mask, "enable_gqa": True}
    output = aes_decode(query, key, value, index=index, backend=backend, **arguments)
    expected = aes_attention(query, key, value, backend="reference", **arguments)
    torch.testing.assert_close(output, expected, rtol=1e-3 if indexed else 1e-5, atol=1e-3)
    full = mask.expand(2, 4, 2, 300).any(dim=-1)
    assert bool((output[~full] == 0).all())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_slice_of_a_larger_cache_is_read_where_it_lies(backend):
    query, key, value = make(200)
    caches = []
    for tensor in (key, value):
        cache = torch.full((2, 2, 512, tensor.shape[3]), torch.nan)
        cache[:, :, :200] = tensor
        caches.append(cache[:, :, :200])
    arguments = {"schedule": Linear(), "enable_gqa": True, "backend": backend}
    expected = aes_decode(query, key, value, **arguments)
    torch.testing.assert_close(aes_decode(query, *caches, **arguments), expected)
    turned = [tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in (key, value)]
    torch.testing.assert_close(aes_decode(query, *turned, **arguments), expected)
    shared = [tensor[:1].expand(2, -1, -1, -1) for tensor in (key, value)]
    expected = aes_decode(query, *(t.contiguous() for t in shared), **arguments)
    torch.testing.assert_close(aes_decode(query, *shared, **arguments), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_edge_rows(backend):
    query, key, value = make(70, heads=2)
    arguments = {"schedule": Linear(), "backend": backend}
    one = aes_decode(query, key[:, :, :1], value[:, :, :1], **arguments)
    torch.testing.assert_close(one, value[:, :, :1])
    # all keys alike: S = log n, zeta = 0, the mean value
    ties = aes_decode(query, key[:, :, :1].expand(-1, -1, 70, -1), value, **arguments)
    torch.testing.assert_close(ties, value.mean(dim=2, keepdim=True), rtol=1e-4, atol=1e-5)
    huge = aes_decode(1e4 * query, key, value, **arguments)
    best = (query @ key.transpose(2, 3)).argmax(dim=3)
    torch.testing.assert_close(huge, value.take_along_dim(best.unsqueeze(3), dim=2))


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sparsity_out_of_range_is_nan(backend, indexed):
    query, key, value = make(4096, heads=2)
    index = KeyIndex(key) if indexed else None

    def schedule(statistics):
        return torch.tensor([0.5, 1.5]).expand_as(statistics.entropy[..., 0]).unsqueeze(-1)

    output = aes_decode(
        query, key, value, schedule=schedule, index=index, tolerance=0.5, backend=backend
    )
    assert output[:, 0].isfinite().all()
    assert output[:, 1].isnan().all()


def test_an_absent_key_that_is_no_number_costs_no_certificate():
    query, key, value = make(4096, heads=2)
    mask = torch.ones(1, 1, 1, 4096, dtype=torch.bool)
    mask[..., 4000:] = False
    read = []
    for filled in (0.0, torch.inf, torch.nan):
        key[:, :, 4000:] = filled
        call = checked_inputs(query, key, value, mask=mask)
        read.append(decode_with_index(call, Linear(), KeyIndex(key), 0.05).visited)
    assert (read[0] < 500).all()
    assert torch.equal(read[1], read[0])
    assert torch.equal(read[2], read[0])


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_in_its_rows(backend, indexed):
    query, key, value = make(70, heads=2)
    arguments = {"schedule": Linear(), "backend": backend}
    index = KeyIndex(key) if indexed else None
    expected = aes_decode(query, key, value, index=index, **arguments)
    broken = query.clone()
    broken[1, 0, 0, 3] = torch.nan
    output = aes_decode(broken, key, value, index=index, **arguments)
    assert bool(output[1, 0].isnan().all())
    assert torch.equal(output[0], expected[0])
    assert torch.equal(output[1, 1], expected[1, 1])
    for bad in (torch.nan, torch.inf):
        broken = key.clone()
        broken[0, 1, 66, 2] = bad
        index = KeyIndex(broken) if indexed else None
        output = aes_decode(query.abs(), broken, value, index=index, **arguments)
        assert bool(output[0, 1].isnan().all())
        assert bool(output[[0, 1, 1], [0, 0, 1]].isfinite().all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_back(dtype):
    inputs = [tensor.to(dtype) for tensor in make(100, heads=2)]
    output = aes_decode(*inputs, schedule=Linear(), backend="cpu")
    assert output.dtype == dtype
    expected = aes_decode(*(t.float() for t in inputs), schedule=Linear(), backend="cpu")
    assert torch.equal(output, expected.to(dtype))


@given(
    seed=st.integers(0, 10_000),
    prompt=st.integers(1, 150),
    steps=st.lists(st.integers(1, 70), max_size=4),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    outlier=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_no_score_leaves_the_bounds_of_the_index(seed, prompt, steps, offset, outlier):
    count = prompt + sum(steps)
    query, key, _ = make(count, heads=2, queries=2, seed=seed)
    key = key + offset
    key[:, :, count // 2] *= outlier
    index = KeyIndex(key[:, :, :prompt])
    for first, last in itertools.pairwise(itertools.accumulate([prompt, *steps])):
        index.append(key[:, :, first:last])
    assert len(index) == count
    near, error = index.approximate(query)
    exact = query.double() @ key.double().transpose(2, 3)
    assert bool(((near - exact).abs() <= error).all())
    # and what the kernels compute in float32 is within the bounds too
    assert bool(((near - query @ key.transpose(2, 3)).abs() <= error).all())


@given(
    seed=st.integers(0, 10_000),
    keys=st.integers(2, 400),
    spread=st.sampled_from([0.3, 3.0, 30.0]),
    backend=st.sampled_from(BACKENDS),
    schedule=st.sampled_from([Linear(), Constant(zeta=0.3), Constant(zeta=1.0)]),
)
def test_no_candidate_is_lost(seed, keys, spread, backend, schedule):
    query, key, value = make(keys, spread=spread, queries=2, seed=seed)
    # rivals that only the last bits tell apart
    key[:, :, keys // 2] = key[:, :, 0] * (1 + 1e-6)
    output, found = aes_decode(
        query,
        key,
        value,
        schedule=schedule,
        index=KeyIndex(key),
        tolerance=0.05,
        enable_gqa=True,
        return_statistics=True,
        backend=backend,
    )
    key, value = (t.double().repeat_interleave(2, dim=1) for t in (key, value))
    scores = query.double() @ key.transpose(2, 3) / 4
    truth = gibbs_statistics(scores)
    assert bool(((found.entropy - truth.entropy).abs() <= 0.05).all())
    assert bool(((found.varentropy.sqrt() - truth.varentropy.sqrt()).abs() <= 0.05).all())
    # at the sparsity found, the weights of the exact scores
    zeta = found.zeta.unsqueeze(-1)
    oracle = entmax(scores, zeta.double(), backend="reference") @ value
    # float32 rounds a sum of d products by d eps |q| |k|, and weights follow scores one to one
    sizes = query.norm(dim=-1).max() * key.norm(dim=-1).max() / 4
    rounding = query.shape[-1] * torch.finfo(torch.float32).eps * max(sizes.item(), 1.0)
    assert (output - oracle).abs().max() <= 2 * value.abs().max() * rounding


def test_kernels_do_what_the_reference_says():
    inputs = make(3000, queries=2)
    index = KeyIndex(inputs[1])
    results = [
        aes_decode(
            *inputs,
            schedule=Linear(),
            index=index,
            enable_gqa=True,
            return_statistics=True,
            backend=backend,
        )
        for backend in BACKENDS
    ]
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[1][1].stack(), results[0][1].stack(), rtol=1e-3, atol=1e-4)


def test_the_index_reads_few_keys_exactly():
    query, key, value = make(5000, heads=2)
    found = decode_with_index(checked_inputs(query, key, value), Linear(), KeyIndex(key), 0.05)
    assert bool((found.visited < 500).all())
    assert bool((found.visited >= found.support).all())
    broad = decode_with_index(
        checked_inputs(query / 100, key, value), Linear(), KeyIndex(key), 0.05
    )
    assert torch.equal(broad.visited, torch.full((2, 2, 1), 5000.0))


def test_threads_change_nothing():
    inputs = make(5000)
    index = KeyIndex(inputs[1])
    outputs = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            for given_index in (None, index):
                arguments = {"index": given_index, "enable_gqa": True, "backend": "cpu"}
                outputs.append(aes_decode(*inputs, schedule=Linear(), **arguments))
        finally:
            torch.set_num_threads(1)
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])


def test_the_index_grows_in_steps_and_says_its_size():
    _, key, _ = make(100)
    index = KeyIndex(key)
    blocks = -(-100 // BLOCK)
    for tensor, per_key in ((index.codes, 32), (index.scales, 4), (index.errors, 4)):
        assert tensor.nbytes == 4 * blocks * BLOCK * per_key
    assert index.nbytes < key.nbytes
    for _ in range(200):
        index.append(key[:, :, :1])
    assert len(index) == 300
    roomy = KeyIndex(key, capacity=1000)
    before = roomy.codes.data_ptr()
    roomy.append(key.repeat(1, 1, 9, 1))
    assert roomy.codes.data_ptr() == before
    near, error = roomy.approximate(key[:, :, :2])
    assert near.shape == error.shape == (2, 2, 2, 1000)
    torch.testing.assert_close(near[..., :100], near[..., 900:], rtol=1e-3, atol=1e-3)


@given(
    seed=st.integers(0, 10_000),
    error=st.floats(0.0, 2.0),
    doubtful=st.floats(0.0, 1.0),
    worst=st.booleans(),
)
def test_certified_errors_hold(seed, error, doubtful, worst):
    generator = torch.Generator().manual_seed(seed)
    near = 3 * torch.randn(50, generator=generator, dtype=torch.float64)
    bounds = error * torch.rand(50, generator=generator, dtype=torch.float64)
    bounds[torch.rand(50, generator=generator) > doubtful] = 0.0
    before = gibbs_statistics(near)
    # up where that broadens the row, down elsewhere, or at random
    sign = torch.sign(near.mean() - near) if worst else torch.randn(50, generator=generator).sign()
    after = gibbs_statistics(near + sign * bounds)
    square = (near.softmax(0) * bounds.square()).sum()
    entropy, deviation = certified_errors(before.varentropy, square, bounds.max())
    assert (after.entropy - before.entropy).abs() <= entropy + IDENTITY
    moved = after.varentropy.sqrt() - before.varentropy.sqrt()
    assert moved.abs() <= deviation + IDENTITY


def test_arguments_are_checked():
    query, key, value = make(10)
    arguments = {"schedule": Linear(), "enable_gqa": True}
    index = KeyIndex(key[:, :, :9])
    with pytest.raises(ArgumentError, match="`index`"):
        aes_decode(query, key, value, index=index, **arguments)
    index.append(key[:, :, 9:])
    with pytest.raises(ArgumentError, match="`tolerance`"):
        aes_decode(query, key, value, index=index, tolerance=0.0, **arguments)
    with pytest.raises(ArgumentError, match="`key`"):
        index.append(key[:1])
    with pytest.raises(ArgumentError, match="at least one key"):
        KeyIndex(key[:, :, :0])
    with pytest.raises(BackendUnavailableError, match="float64"):
        aes_decode(*doubles(query, key, value), backend="cpu", **arguments)


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_of_few_queries_takes_this_path_by_itself(is_causal):
    query, key, value = make(200, queries=3)
    inputs = checked_inputs(query, key, value, is_causal=is_causal, enable_gqa=True)
    trained = checked_inputs(query.requires_grad_(), key, value, enable_gqa=True)
    assert isinstance(rows_of(trained, "cpu"), StreamedRows), "a gradient is needed"
    arguments = {"is_causal": is_causal, "enable_gqa": True}
    with torch.no_grad():
        assert isinstance(rows_of(inputs, "auto"), FewQueries)
        many = checked_inputs(*make(20, queries=20), enable_gqa=True)
        assert isinstance(rows_of(many, "auto"), StreamedRows)
        for attention, sparsity in (
            (aes_attention, {"schedule": Linear()}),
            (entmax_attention, {"zeta": 0.4}),
        ):
            fast, plain = (
                attention(query, key, value, **sparsity, backend=backend, **arguments)
                for backend in ("cpu", "reference")
            )
            torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_a_learned_sparsity_gets_its_gradient_where_the_inputs_need_none():
    query, key, value = make(200, queries=2)
    gradients = []
    for backend in ("cpu", "reference"):
        zeta = torch.full(query.shape[:3], 0.4, requires_grad=True)
        mixed = entmax_attention(query, key, value, zeta=zeta, enable_gqa=True, backend=backend)
        gradients += torch.autograd.grad(mixed.square().sum(), zeta)
    assert gradients[1].abs().max() > 0.1
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def test_a_learned_sparsity_gets_its_gradient_from_few_queries_too():
    query, key, value = make(200, heads=2)
    gradients = []
    for backend in ("cpu", "reference"):
        zeta = torch.full((2, 2, 1), 0.4, requires_grad=True)
        output = aes_attention(query, key, value, schedule=lambda _, z=zeta: z, backend=backend)
        output.square().sum().backward()
        gradients.append(zeta.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_no_gradient_is_kept():
    query, key, value = make(10)
    query.requires_grad_()
    assert not aes_decode(query, key, value, schedule=Linear(), enable_gqa=True).requires_grad


def surroundings():
    """Contexts that change what a factory function makes."""
    for dtype in (torch.bfloat16, torch.float64):
        yield str(dtype), default_dtype(dtype)
    yield "meta", torch.device("meta")


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_defaults_of_dtype_and_device_change_nothing(backend):
    query, key, value = make(300, queries=4)
    arguments = {"enable_gqa": True, "backend": backend}

    def results():
        sparse = entmax_attention(query, key, value, zeta=0.4, **arguments)
        statistics = attention_row_statistics(query, key, **arguments)
        decoded = [
            aes_decode(query, key, value, schedule=Linear(), index=index, **arguments)
            for index in (None, KeyIndex(key))
        ]
        return [sparse, *dataclasses.astuple(statistics), *decoded]

    expected = results()
    for name, surrounding in surroundings():
        with surrounding:
            found = results()
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype, name
            assert torch.equal(one, other), name


class Labelled(torch.Tensor):
    """A subclass that does nothing of its own."""


def attend(query, key, value):
    return entmax_attention(query, key, value, zeta=0.4, enable_gqa=True)


def decode(query, key, value):
    return aes_decode(query, key, value, schedule=Linear(), enable_gqa=True)


def attend_linearly(query, key, value):
    return lln_attention(query, key, value, enable_gqa=True)


@pytest.mark.parametrize("function", [attend, attend_linearly, decode])
@pytest.mark.parametrize("pre_dispatch", [False, True])
def test_a_graph_holds_no_numbers_of_the_call_that_made_it(function, pre_dispatch):
    graph = make_fx(function, pre_dispatch=pre_dispatch)(*make(100, queries=4))
    others = make(100, queries=4, seed=1)
    torch.testing.assert_close(graph(*others), function(*others), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [attend, decode])
def test_a_traced_module_holds_no_numbers_either(function):
    inputs, others = (make(100, queries=4, seed=seed) for seed in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and wary of every shape
        traced = torch.jit.trace(function, inputs, check_trace=False)
    torch.testing.assert_close(traced(*others), function(*others), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("function", [attend, attend_linearly, decode])
def test_modes_and_subclasses_are_served(function):
    inputs = make(100, queries=4)
    expected = function(*inputs)
    with FakeTensorMode() as mode:
        assert function(*(mode.from_tensor(tensor) for tensor in inputs)).shape == expected.shape
    with FlopCounterMode(display=False):
        torch.testing.assert_close(function(*inputs), expected, rtol=1e-4, atol=1e-5)
    labelled = function(*(tensor.as_subclass(Labelled) for tensor in inputs))
    torch.testing.assert_close(labelled.as_subclass(torch.Tensor), expected, rtol=1e-4, atol=1e-5)


def test_decoding_says_what_it_cannot_trace():
    query, key, value = make(100)
    index = KeyIndex(key)
    with FlopCounterMode(display=False), pytest.raises(ArgumentError, match="traced"):
        aes_decode(query, key, value, schedule=Linear(), index=index, enable_gqa=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("indexed", [False, True])
def test_a_schedule_must_give_one_sparsity_a_row(backend, indexed):
    query, key, value = make(100, heads=2, queries=3)
    index = KeyIndex(key) if indexed else None
    for schedule in (lambda s: s.entropy[..., :1], lambda s: s.entropy.mean()):
        with pytest.raises(ArgumentError, match="one sparsity a row"):
            aes_decode(query, key, value, schedule=schedule, index=index, backend=backend)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(0, 2, 9), (2, 0, 9), (2, 2, 0)])
def test_nothing_to_decode(shape, masked):
    batch, heads, keys = shape
    query, key, value = make(keys, batch=batch, heads=heads, key_heads=heads)
    mask = torch.ones(batch, heads, 1, keys, dtype=torch.bool) if masked else None
    expected = torch.zeros(batch, heads, 1, 24)
    for index in (None, KeyIndex(key)) if keys else (None,):
        arguments = {"schedule": Linear(), "index": index, "mask": mask}
        for backend in ("auto", "reference"):
            output = aes_decode(query, key, value, backend=backend, **arguments)
            assert torch.equal(output, expected)
        with pytest.raises(BackendUnavailableError, match="no key"):
            aes_decode(query, key, value, backend="cpu", **arguments)


@pytest.mark.parametrize("steps", [[4095], [1] * 100 + [3995], [50, 4045]])
def test_an_index_begun_with_one_key_becomes_as_good_as_any(steps):
    query, key, value = make(4096, heads=2)
    inputs = checked_inputs(query, key, value)
    index = KeyIndex(key[:, :, :1])
    for first, last in itertools.pairwise(itertools.accumulate([1, *steps])):
        index.append(key[:, :, first:last])
    grown, built = (
        decode_with_index(inputs, Linear(), one, 0.05).visited for one in (index, KeyIndex(key))
    )
    assert bool((built < 500).all())
    assert bool((grown <= 2 * built + 8).all())


def test_keys_all_alike_leave_room_for_others():
    query, key, value = make(4096, heads=2)
    key[:, :, :BLOCK] = key[:, :, :1].clone()
    index = KeyIndex(key[:, :, :BLOCK])
    index.append(key[:, :, BLOCK:])
    visited = decode_with_index(checked_inputs(query, key, value), Linear(), index, 0.05).visited
    assert bool((visited < 500).all())


def test_a_young_index_keeps_no_view_of_the_cache():
    query, key, _ = make(40, heads=2)
    cache = key.clone()
    index = KeyIndex(cache[:, :, :1])
    cache[:, :, :1] = torch.nan
    index.append(key[:, :, 1:])
    near, error = index.approximate(query)
    exact = query.double() @ key.double().transpose(2, 3)
    assert bool(((near - exact).abs() <= error).all())
    assert bool(error.isfinite().all())


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 1, 90), (1, 1, 3, 1), (1, 4, 3, 90), (1, 1, 1, 1)])
def test_an_expanded_mask_is_read_where_it_lies(shape, is_causal):
    query, key, value = make(90, queries=3)
    mask = (torch.rand(shape) > 0.3).expand(2, 4, 3, 90)
    inputs = checked_inputs(query, key, value, mask=mask, is_causal=is_causal, enable_gqa=True)
    numbers, strides = flat_mask(inputs)
    if is_causal:
        assert numbers.size <= max(shape[0] * shape[1], 1) * 3 * 90
    else:
        assert numbers.size == math.prod(shape)
        assert numbers.ctypes.data == mask.data_ptr()
    found = np.lib.stride_tricks.as_strided(numbers, mask.shape, strides)
    assert (found.astype(bool) == inputs.full_mask().numpy()).all()


def test_a_mask_that_is_a_slice_is_read_where_it_lies():
    query, key, value = make(90, queries=3)
    mask = (torch.rand(2, 4, 90, 20) > 0.3)[..., 7:10].transpose(2, 3)
    arguments = {"mask": mask, "enable_gqa": True, "schedule": Linear()}
    fast, plain = (aes_decode(query, key, value, backend=b, **arguments) for b in BACKENDS)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_is_that_of_attention(backend, indexed):
    query, key, value = make(300, heads=2)
    index = KeyIndex(key.bfloat16()) if indexed else None
    arguments = {"schedule": Linear(), "backend": backend}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = aes_decode(query, key, value, index=index, **arguments)
        assert found.dtype == aes_attention(query, key, value, **arguments).dtype == torch.bfloat16
    narrow = [tensor.bfloat16() for tensor in (query, key, value)]
    assert torch.equal(found, aes_decode(*narrow, index=index, **arguments))
