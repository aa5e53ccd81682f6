"""The two attentions without statistics in their formula, against torch and the oracle."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from gibbsian._errors import ArgumentError
from gibbsian.attention import (
    Entmax,
    entmax_attention,
    lln_attention,
    lln_diag_attention,
    softmax_attention,
)
from tests.attention.cases import inputs
from tests.oracles.attention import attend
from tests.tolerances import assert_gradients, assert_identity, assert_same


@pytest.mark.parametrize("zeta", [0.0, 0.25, 0.5, 1.0])
def test_entmax_oracle(zeta):
    query, key, value = inputs(key_heads=2, keys=9, dtype=torch.float64)
    mask = torch.rand(2, 4, 7, 9) > 0.3
    output, statistics = entmax_attention(
        query, key, value, zeta=zeta, mask=mask, enable_gqa=True, return_statistics=True
    )
    expected, reported = attend(query, key, value, zeta=lambda _: zeta, seen=mask.numpy())
    assert_identity(output, torch.from_numpy(expected))
    for name, values in reported.items():
        assert_identity(getattr(statistics, name), torch.from_numpy(values))


def test_softmax_oracle():
    query, key, value = inputs(key_heads=2, keys=9, dtype=torch.float64)
    mask = torch.rand(2, 4, 7, 9) > 0.3
    mask[0, 1, 2] = False
    output, statistics = softmax_attention(
        query, key, value, mask=mask, enable_gqa=True, return_statistics=True
    )
    expected, reported = attend(query, key, value, zeta=lambda _: 0.0, seen=mask.numpy())
    assert_identity(output, torch.from_numpy(expected))
    for name, values in reported.items():
        assert_identity(getattr(statistics, name), torch.from_numpy(values))


def test_softmax_without_a_mask_is_torchs_kernel():
    query, key, value = inputs()
    assert torch.equal(
        softmax_attention(query, key, value, is_causal=True),
        scaled_dot_product_attention(query, key, value, is_causal=True),
    )


@pytest.mark.parametrize("shape", [(), (4, 1), (2, 4, 7), (1, 1, 7)])
def test_zeta_for_each_row(shape):
    query, key, value = inputs()
    zeta = torch.rand(shape)
    output = entmax_attention(query, key, value, zeta=zeta)
    each = zeta.expand(2, 4, 7)
    for b, h, i in [(0, 0, 0), (0, 3, 6), (1, 2, 4)]:
        row = entmax_attention(
            query[b : b + 1, h : h + 1, i : i + 1],
            key[b : b + 1, h : h + 1],
            value[b : b + 1, h : h + 1],
            zeta=float(each[b, h, i]),
        )
        assert_same(output[b, h, i], row[0, 0, 0])


def test_gradient_in_zeta():
    query, key, value = inputs(
        batch=1, heads=2, queries=3, keys=5, head_dim=3, value_dim=2, dtype=torch.float64
    )

    def output(zeta):
        return entmax_attention(query, key, value, zeta=zeta)

    assert_gradients(output, (torch.tensor([[0.3], [0.8]]),))


@pytest.mark.parametrize("zeta", [-0.1, 1.5, float("nan")])
def test_zeta_out_of_range(zeta):
    query, key, value = inputs()
    with pytest.raises(ArgumentError, match=r"`zeta` must lie in \[0, 1\]"):
        entmax_attention(query, key, value, zeta=zeta)
    with pytest.raises(ArgumentError, match=r"`zeta` must lie in \[0, 1\]"):
        Entmax(zeta=zeta)


def test_zeta_of_the_wrong_shape():
    query, key, value = inputs()
    message = r"`zeta` must broadcast to \(batch, heads, queries\) \(2, 4, 7\), got \(4,\)"
    with pytest.raises(ArgumentError, match=message):
        entmax_attention(query, key, value, zeta=torch.rand(4))


def test_a_nan_score_stays_in_its_row():
    query, key, value = inputs()
    query[0, 1, 2, 0] = float("nan")
    output = entmax_attention(query, key, value, zeta=0.5)
    assert output[0, 1, 2].isnan().all()
    output[0, 1, 2] = 0.0
    assert output.isfinite().all()


def test_a_scale_that_is_no_number_gives_none():
    for is_causal in (False, True):
        output = softmax_attention(*inputs(), scale=float("nan"), is_causal=is_causal)
        assert output.isnan().all()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_softmax_statistics_are_those_before_dropout(backend):
    tensors = inputs()
    options = {"backend": backend, "return_statistics": True}
    _, expected = softmax_attention(*tensors, **options)
    _, found = softmax_attention(*tensors, dropout_p=0.5, **options)
    assert torch.equal(found.entropy, expected.entropy)


@pytest.mark.parametrize("scale", [-0.3, 0.0])
def test_causal_softmax_under_a_scale_that_is_not_positive(scale):
    # values as wide as keys: what torch's fused kernel takes, which gives NaN then
    query, key, value = (torch.randn(1, 2, 70, 16, dtype=torch.float64) for _ in range(3))
    hidden = torch.ones(70, 70, dtype=torch.bool).triu(1)
    weights = (scale * query @ key.mT).masked_fill(hidden, -torch.inf).softmax(dim=-1)
    inputs = query.float(), key.float(), value.float()
    found = softmax_attention(*inputs, is_causal=True, scale=scale)
    assert_same(found, (weights @ value).float())
    # with one block of all keys, LLN+Diag is the mean of LLN and this
    options = {"is_causal": True, "scale": scale, "backend": "reference"}
    mean = lln_diag_attention(*inputs, block_size=70, **options)
    assert_same(mean, (lln_attention(*inputs, **options) + found) / 2)
