"""Every form against the oracle, and the conventions of the two functions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian._errors import BackendUnavailableError
from gibbsian.attention.lln import lln_attention, lln_diag_attention
from tests.attention.lln.cases import KEY_SCALE, PADDINGS, QUERY_SCALE, make
from tests.oracles.lln import entropy_and_varentropy
from tests.tolerances import assert_as_accurate_as, assert_gradients, assert_identity, assert_same

SCALES = {"query_scale": QUERY_SCALE, "key_scale": KEY_SCALE}
BLOCK = 16


def both(case, **options):
    """(output, oracle) of LLN and of LLN+Diag."""
    arguments = {**case.arguments(), **SCALES, **options}
    yield lln_attention(case.query, case.key, case.value, **arguments), case.weights()
    yield (
        lln_diag_attention(case.query, case.key, case.value, block_size=BLOCK, **arguments),
        case.weights(block_size=BLOCK),
    )


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 63, 130])
def test_output_is_the_oracles(length, causal, padding):
    case = make(length, length, causal=causal, padding=padding)
    for output, weights in both(case):
        assert_identity(output, weights @ case.value)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(1, 40), (5, 70), (70, 5), (33, 48), (48, 33)])
@pytest.mark.parametrize("dense", [False, True])
def test_queries_and_keys_of_different_lengths(queries, keys, causal, padding, dense):
    case = make(queries, keys, causal=causal, padding=padding, dense=dense)
    for output, weights in both(case):
        assert_identity(output, weights @ case.value)


@pytest.mark.parametrize("causal", [False, True])
def test_statistics_are_those_of_the_rows(causal):
    case = make(37, 37, causal=causal, padding="left")
    for (_, statistics), weights in both(case, return_statistics=True):
        expected = np.array(
            [entropy_and_varentropy(row) for row in weights.numpy().reshape(-1, 37)]
        ).reshape(2, 2, 37, 2)
        assert_identity(statistics.entropy, torch.from_numpy(expected[..., 0]))
        assert_identity(statistics.varentropy, torch.from_numpy(expected[..., 1]))
        keys = torch.from_numpy(case.seen().sum(axis=-1)).double()
        assert_identity(statistics.num_keys, keys)
        assert_identity(statistics.support_size, keys)
        assert (statistics.zeta == 0).all()


def test_statistics_survive_scores_beyond_the_exponents_range():
    case = make(9, 9, causal=True, padding="none")
    key = case.key.clone()
    key[:, :, 4] *= 1e4
    _, statistics = lln_attention(
        case.query, key, case.value, is_causal=True, return_statistics=True, **SCALES
    )
    _, early = lln_attention(
        *(x[:, :, :4] for x in (case.query, key, case.value)),
        is_causal=True,
        return_statistics=True,
        **SCALES,
    )
    assert statistics.entropy.isfinite().all()
    assert_identity(statistics.entropy[:, :, :4], early.entropy)


def test_a_key_whose_weight_is_too_small_is_counted():
    key = torch.zeros(1, 1, 128, 4)
    key[:, :, 0] = 100.0
    query, value = torch.zeros(2, 1, 1, 128, 4)
    for attention in (lln_attention, lln_diag_attention):
        _, statistics = attention(
            query, key, value, query_scale=1.0, key_scale=1.0, return_statistics=True
        )
        assert (statistics.num_keys == 128).all()
        assert (statistics.support_size == 128).all()
        assert statistics.entropy.isfinite().all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("attention", [lln_attention, lln_diag_attention])
def test_gradients(attention, causal):
    case = make(5, 5, causal=causal, padding="holes", batch=1)
    options = {} if attention is lln_attention else {"block_size": 2}

    def function(*inputs):
        return attention(*inputs, **case.arguments(), **SCALES, **options)

    assert_gradients(function, (case.query, case.key, case.value), second_order=True)


def test_gradients_pass_through_the_moments_of_the_input():
    case = make(4, 4, causal=False, padding="none", batch=1, heads=1)
    assert_gradients(lln_attention, (case.query, case.key, case.value))


def test_gradients_across_chunks_are_the_references():
    case = make(130, 130, causal=True, padding="left", batch=1, heads=1)
    grads = []
    for dense in (False, True):
        inputs = [x.clone().requires_grad_() for x in (case.query, case.key, case.value)]
        query, key, value = inputs
        if dense:
            seen = torch.from_numpy(case.seen())
            scores = QUERY_SCALE * query.unsqueeze(-2) + KEY_SCALE * key.unsqueeze(-3)
            scores = scores.logsumexp(dim=-1).masked_fill(~seen, -torch.inf)
            rows = seen.any(dim=-1)
            output = torch.zeros_like(query[..., :1]).expand(value.shape).clone()
            output[rows] = (scores.masked_fill(~rows[..., None], 0.0).softmax(-1) @ value)[rows]
        else:
            output = lln_attention(query, key, value, **case.arguments(), **SCALES)
        weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
        grads.append(torch.autograd.grad(output, inputs, weight))
    for actual, expected in zip(*grads, strict=True):
        assert_identity(actual, expected, scale=10.0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("attention", [lln_attention, lln_diag_attention])
def test_grouped_queries_are_repeated_keys(attention, causal):
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 6, 21, 4, generator=generator)
    key, value = torch.randn(2, 2, 2, 21, 4, generator=generator)
    grouped = attention(query, key, value, is_causal=causal, enable_gqa=True)
    repeated = attention(
        query,
        key.repeat_interleave(3, dim=1),
        value.repeat_interleave(3, dim=1),
        is_causal=causal,
    )
    assert_same(grouped, repeated)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [1.0, 100.0])
@pytest.mark.parametrize("causal", [False, True])
def test_narrow_dtypes_neither_overflow_nor_lose_rows(dtype, size, causal):
    case = make(80, 80, causal=causal, padding="left")
    query, key = (size * case.query).to(dtype), (size * case.key).to(dtype)
    ones = torch.ones(2, 2, 80, 1, dtype=dtype)
    sums = lln_attention(query, key, ones, **case.arguments(), **SCALES)
    assert sums.dtype == dtype
    occupied = torch.from_numpy(case.seen().any(axis=-1)).unsqueeze(-1)
    assert_same(sums, occupied.to(dtype))
    value = case.value.to(dtype)
    output = lln_attention(query, key, value, **case.arguments(), **SCALES)
    scores = QUERY_SCALE * query.float().unsqueeze(-2) + KEY_SCALE * key.float().unsqueeze(-3)
    scores = scores.logsumexp(dim=-1).masked_fill(~torch.from_numpy(case.seen()), -torch.inf)
    plain = torch.where(occupied, scores.softmax(dim=-1), 0.0) @ value.float()
    exact = lln_attention(
        query.double(), key.double(), value.double(), **case.arguments(), **SCALES
    )
    assert_as_accurate_as(output, plain.to(dtype), exact)


@pytest.mark.parametrize("attention", [lln_attention, lln_diag_attention])
def test_autocast_keeps_the_sums_in_float32(attention):
    case = make(70, 70, causal=True, padding="none", head_dim=16)
    query, key = case.query.float(), case.key.float()
    ones = torch.ones(2, 2, 70, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = attention(query, key, ones, is_causal=True, **SCALES)
        output = attention(query, key, query, is_causal=True, **SCALES)
    assert sums.dtype == torch.bfloat16
    assert_same(sums, ones.bfloat16())
    narrow = query.bfloat16(), key.bfloat16(), query.bfloat16()
    assert torch.equal(output, attention(*narrow, is_causal=True, **SCALES))


@pytest.mark.parametrize("attention", [lln_attention, lln_diag_attention])
def test_dropout_drops_keys_without_bias(attention):
    case = make(40, 40, causal=False, padding="none", head_dim=8, batch=1, heads=1)
    torch.manual_seed(3)
    identity = torch.eye(40, dtype=torch.float64)[None, None]
    plain = attention(case.query, case.key, identity)
    dropped = attention(case.query, case.key, identity, dropout_p=0.25)
    kept = (dropped != 0).any(dim=-2, keepdim=True)
    assert_identity(dropped, torch.where(kept, plain / 0.75, 0.0))
    assert 0 < int(kept.sum()) < 40
    torch.manual_seed(4)
    assert (attention(case.query, case.key, identity, dropout_p=0.25) != dropped).any()


def test_another_score_scale_acts_on_the_queries():
    case = make(12, 12, causal=False, padding="none")
    scaled = lln_attention(case.query, case.key, case.value, scale=1.0, **SCALES)
    assert_identity(scaled, lln_attention(2.0 * case.query, case.key, case.value, **SCALES))
    # matched, the scale of the queries cancels, but for the variance that is aimed at
    half = lln_attention(case.query, case.key, case.value, scale=0.25)
    assert_identity(half, lln_attention(0.5 * case.query, case.key, case.value))


def test_scales_may_differ_by_sample_and_head():
    case = make(12, 12, causal=True, padding="none")
    query_scale = torch.tensor([[1.0, 2.0], [3.0, 0.5]], dtype=torch.float64)
    key_scale = torch.tensor([2.0, 1.0], dtype=torch.float64)
    output = lln_attention(
        case.query,
        case.key,
        case.value,
        is_causal=True,
        query_scale=query_scale,
        key_scale=key_scale,
    )
    for b in range(2):
        for h in range(2):
            alone = lln_attention(
                *(x[b : b + 1, h : h + 1] for x in (case.query, case.key, case.value)),
                is_causal=True,
                query_scale=float(query_scale[b, h]),
                key_scale=float(key_scale[h]),
            )
            assert_identity(output[b : b + 1, h : h + 1], alone)


@pytest.mark.parametrize("attention", [lln_attention, lln_diag_attention])
@pytest.mark.parametrize(("queries", "keys"), [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("causal", [False, True])
def test_no_queries_or_no_keys(attention, queries, keys, causal):
    output, statistics = attention(
        torch.randn(1, 2, queries, 4),
        torch.randn(1, 2, keys, 4),
        torch.randn(1, 2, keys, 3),
        is_causal=causal,
        return_statistics=True,
        **SCALES,
    )
    assert output.shape == (1, 2, queries, 3)
    assert (output == 0).all()
    assert statistics.num_keys.shape == (1, 2, queries)
    mask = torch.ones(1, 1, queries, keys, dtype=torch.bool)
    inputs = (torch.randn(1, 2, count, 4) for count in (queries, keys, keys))
    assert attention(*inputs, mask=mask, **SCALES).shape == (1, 2, queries, 4)


@pytest.mark.parametrize("attention", [lln_attention, lln_diag_attention])
@pytest.mark.parametrize("causal", [False, True])
def test_values_without_a_channel_have_no_gradient(attention, causal):
    query, key = (torch.randn(1, 1, 70, 8, requires_grad=True) for _ in range(2))
    value = torch.zeros(1, 1, 70, 0)
    output = attention(query, key, value, is_causal=causal, **SCALES)
    assert output.shape == (1, 1, 70, 0)
    for gradient in torch.autograd.grad(output.sum(), (query, key)):
        assert (gradient == 0).all()
    with pytest.raises(BackendUnavailableError, match="a value has no channel"):
        attention(query, key, value, is_causal=causal, backend="cpu", **SCALES)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from(PADDINGS),
    st.integers(1, 20),
)
def test_any_length_padding_and_block(queries, keys, causal, padding, block_size):
    case = make(queries, keys, causal=causal, padding=padding, batch=2, heads=1)
    output = lln_diag_attention(
        case.query, case.key, case.value, block_size=block_size, **case.arguments(), **SCALES
    )
    assert_identity(output, case.weights(block_size=block_size) @ case.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_scale": 2.0}, "`key_scale` must be given when the other scale is"),
        ({"query_scale": 0.0, "key_scale": 1.0}, "`query_scale` must be > 0, got 0.0"),
        ({"query_scale": torch.ones(3), "key_scale": 1.0}, "must broadcast to"),
        ({"mask": torch.eye(6, dtype=torch.bool)}, "rows differ in another way"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    case = make(6, 6, causal=False, padding="none")
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        lln_attention(case.query, case.key, case.value, **options)


@pytest.mark.parametrize("attention", [lln_attention, lln_diag_attention])
@pytest.mark.parametrize("causal", [False, True])
def test_no_keys_give_0_with_moments_of_the_input(attention, causal):
    query = torch.randn(2, 3, 4, 5, requires_grad=True)
    nothing = torch.zeros(2, 3, 0, 5)
    output, statistics = attention(
        query, nothing, nothing, is_causal=causal, return_statistics=True
    )
    assert output.shape == query.shape
    assert (output == 0).all()
    assert (statistics.entropy == 0).all()
    output.sum().backward()
    assert (query.grad == 0).all()


def test_block_size_must_be_positive():
    case = make(6, 6, causal=False, padding="none")
    with pytest.raises(ValueError, match="`block_size` must be >= 1, got 0"):
        lln_diag_attention(case.query, case.key, case.value, block_size=0)
