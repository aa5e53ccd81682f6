"""The causal and the recurrent form against the quadratic reference; states; extreme inputs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian.attention.lln import (
    LinearMask,
    LLNState,
    bidirectional_lln,
    causal_lln,
    lln_weights,
    recurrent_lln,
)
from tests.tolerances import assert_as_accurate_as, assert_gradients, assert_identity, assert_same


def features(queries, keys, *, seed=0, size=2.0, dtype=torch.float64):
    """Log features of queries and keys, and values; head_dim 4, value_dim 3."""
    generator = torch.Generator().manual_seed(seed)
    a, b, v = (
        torch.randn(2, 2, n, d, generator=generator, dtype=torch.float64).to(dtype)
        for n, d in ((queries, 4), (keys, 4), (keys, 3))
    )
    return size * a, size * b, v


@pytest.mark.parametrize("chunk_size", [1, 7, 64])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 130])
def test_causal_chunks_are_the_reference(length, chunk_size):
    a, b, v = features(length, length)
    mask = LinearMask(queries=length, keys=length, causal_offset=0)
    expected = lln_weights(a, b, mask) @ v
    assert_identity(causal_lln(a, b, v, chunk_size=chunk_size), expected)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(-10, 30), st.integers(1, 12))
def test_any_offset_is_the_reference(queries, keys, offset, chunk_size):
    a, b, v = features(queries, keys)
    mask = LinearMask(queries=queries, keys=keys, causal_offset=offset)
    expected = lln_weights(a, b, mask) @ v
    assert_identity(causal_lln(a, b, v, offset=offset, chunk_size=chunk_size), expected)


@pytest.mark.parametrize("chunk_size", [2, 3])
def test_gradients_across_chunks(chunk_size):
    a, b, v = (x[:1, :1] for x in features(7, 7))

    def function(a, b, v):
        return causal_lln(a, b, v, chunk_size=chunk_size)

    assert_gradients(function, (a, b, v), second_order=True)


def test_bidirectional_is_the_reference():
    a, b, v = features(31, 77)
    mask = LinearMask(queries=31, keys=77)
    assert_identity(bidirectional_lln(a, b, v), lln_weights(a, b, mask) @ v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("place", [0, 5, 20, 63])
@pytest.mark.parametrize("size", [50.0, 200.0, 1e4, -1e4])
def test_a_key_beyond_the_exponents_range_in_the_middle_of_a_chunk(dtype, place, size):
    a, b, v = features(64, 64, dtype=dtype)
    b[:, :, place, 2] = size
    mask = LinearMask(queries=64, keys=64, causal_offset=0)
    expected = lln_weights(a.double(), b.double(), mask) @ v.double()
    output = causal_lln(a, b, v)
    plain = lln_weights(a, b, mask) @ v
    assert_as_accurate_as(output, plain, expected)


@given(st.integers(1, 200), st.floats(0.1, 300.0))
def test_rows_sum_to_1(length, size):
    a, b, _ = features(length, length, size=size, dtype=torch.float32)
    one = torch.ones(2, 2, length, 1)
    for sums in (causal_lln(a, b, one), bidirectional_lln(a, b, one)):
        assert_same(sums, one)


def test_recurrent_steps_are_the_causal_rows():
    a, b, v = features(40, 40)
    b[1, :, :5] = -torch.inf  # left padding of one sample
    state = LLNState.of(b[:, :, :0], v[:, :, :0])
    outputs = []
    for i in range(40):
        output, state = recurrent_lln(state, a[:, :, i], b[:, :, i], v[:, :, i])
        outputs.append(output)
    outputs = torch.stack(outputs, dim=2)
    assert_identity(outputs, causal_lln(a, b, v))
    assert (outputs[1, :, :5] == 0).all()
    assert state.memory.shape == (2, 2, 4, 4)


def test_decoding_goes_on_after_a_prompt():
    a, b, v = features(20, 20)
    state = LLNState.of(b[:, :, :12], v[:, :, :12])
    expected = causal_lln(a, b, v)
    for i in range(12, 20):
        output, state = recurrent_lln(state, a[:, :, i], b[:, :, i], v[:, :, i])
        assert_identity(output, expected[:, :, i])


@given(st.lists(st.integers(0, 6), min_size=2, max_size=4))
def test_states_of_disjoint_keys_merge(sizes):
    a, b, v = features(3, sum(sizes), size=20.0)
    parts = [
        LLNState.of(keys, values)
        for keys, values in zip(b.split(sizes, dim=2), v.split(sizes, dim=2), strict=True)
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert_identity(merged.read(a), LLNState.of(b, v).read(a))
    reverse = parts[-1]
    for part in parts[-2::-1]:
        reverse = part.merge(reverse)
    assert_identity(reverse.read(a), merged.read(a))
