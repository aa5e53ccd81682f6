"""Compiled entmax, AES and row statistics against the reference in float64, gradients too."""

import pytest
import torch

from gibbsian.attention import aes_attention, attention_row_statistics, softmax_attention
from gibbsian.attention.cpu import layout
from gibbsian.attention.inputs import causal_mask
from gibbsian.normalizers import SmoothStep
from gibbsian.statistics import gibbs_statistics
from tests.attention.cpu.cases import FORMS, check, results, tensors
from tests.tolerances import assert_as_accurate_as, assert_same

forms = pytest.mark.parametrize("form", FORMS)
both_directions = pytest.mark.parametrize("is_causal", [False, True])


@forms
@both_directions
@pytest.mark.parametrize("length", [1, 2, 5, 63, 64, 65, 130])
def test_any_length(form, is_causal, length):
    check(form, tensors(length, length), is_causal=is_causal)


@forms
@both_directions
def test_several_tiles(form, is_causal):
    check(form, tensors(1000, 1000, heads=1), is_causal=is_causal)


@forms
@pytest.mark.parametrize("sizes", [(1, 1), (5, 17), (17, 80), (80, 128), (128, 3), (64, 64)])
def test_any_head_size(form, sizes):
    check(form, tensors(70, 70, head_dim=sizes[0], value_dim=sizes[1]), is_causal=True)


@forms
@both_directions
@pytest.mark.parametrize("lengths", [(5, 90), (90, 5), (1, 70), (70, 1), (67, 130), (130, 67)])
def test_different_lengths(form, is_causal, lengths):
    check(form, tensors(*lengths), is_causal=is_causal)


@forms
@both_directions
@pytest.mark.parametrize("key_heads", [1, 2])
def test_grouped_queries(form, is_causal, key_heads):
    inputs = tensors(39, 70, heads=6, key_heads=key_heads, batch=2)
    mask = torch.rand(2, 6, 39, 70) > 0.3
    check(form, inputs, is_causal=is_causal, enable_gqa=True)
    check(form, inputs, is_causal=is_causal, enable_gqa=True, mask=mask)


SHAPES = [(2, 3, 9, 70), (2, 3, 1, 70), (2, 1, 9, 70), (1, 3, 9, 70), (2, 1, 1, 70), (1, 3, 1, 1),
          (2, 3, 9, 1), (1, 1, 9, 1), (9, 70), (70,), (3, 9, 70)]  # fmt: skip


@forms
@both_directions
@pytest.mark.parametrize("shape", SHAPES)
def test_any_mask(form, is_causal, shape):
    """Rows and heads without a key among them."""
    mask = torch.rand(shape) > 0.4
    check(form, tensors(9, 70, batch=2, heads=3), mask=mask, is_causal=is_causal)


@forms
def test_a_mask_that_is_a_view(form):
    inputs = tensors(9, 70, batch=2, heads=3)
    wide = torch.rand(2, 70, 9, 3, 2) > 0.4
    mask = wide.transpose(1, 3)[..., 1]
    assert not mask.is_contiguous()
    expected = results(form, inputs, mask=mask.contiguous(), backend="cpu")
    for one, other in zip(results(form, inputs, mask=mask, backend="cpu"), expected, strict=True):
        assert torch.equal(one, other)


@forms
@both_directions
def test_rows_without_keys(form, is_causal):
    mask = torch.ones(1, 2, 70, 70, dtype=torch.bool)
    mask[0, 0, ::3] = False
    mask[0, 1, 3:40] = False
    inputs = tensors(70, 70)
    check(form, inputs, mask=mask, is_causal=is_causal)
    empty = ~mask.any(dim=-1)
    output, grad_query, *_ = results(form, inputs, mask=mask, is_causal=is_causal, backend="cpu")
    assert (output[empty] == 0).all()
    assert (grad_query[empty] == 0).all()


@pytest.mark.parametrize("length", [3, 66, 131])
@pytest.mark.parametrize("dense", [(), (0,), (1, 2), (0, 1, 2, 3), (2,), (64, 65), (5, 40), None])
def test_dense_rows_among_sparse_ones(length, dense):
    """A dense row goes through a matrix product, with whatever shares its register tile."""
    query, key, value, _ = tensors(length, length, heads=1)
    zeta = torch.full((1, 1, length), 0.9)
    rows = range(length) if dense is None else [row for row in dense if row < length]
    for row in rows:
        zeta[0, 0, row] = 0.0
    for scale in (None, 3.0):
        check("entmax", (query, key, value, zeta), scale=scale)
    # nothing but its own row feels what a row does
    first = results("entmax", (query, key, value, zeta), backend="cpu")
    zeta[0, 0, -1] = 0.3
    second = results("entmax", (query, key, value, zeta), backend="cpu")
    assert_same(first[0][:, :, :-1], second[0][:, :, :-1])
    assert_same(first[1][:, :, :-1], second[1][:, :, :-1])


@pytest.mark.parametrize("zeta", [0.0, 1e-9, 0.3, 0.9])
@pytest.mark.parametrize("length", [4, 5, 6, 7, 61])
def test_rows_alike(zeta, length):
    """All dense or all sparse, with a last register tile of every size."""
    query, key, value, _ = tensors(length, 130)
    check("entmax", (query, key, value, torch.full((1, 2, length), zeta)))


@pytest.mark.parametrize("bad", [-0.5, 1.5, torch.nan])
@pytest.mark.parametrize("at", [0, 3, 65])
def test_an_invalid_sparsity_spoils_its_row_only(bad, at):
    query, key, value, zeta = tensors(66, 70, heads=1)
    inputs = (query, key, value, zeta)
    clean = results("entmax", inputs, backend="cpu")
    spoilt_zeta = zeta.clone()
    spoilt_zeta[0, 0, at] = bad
    output, grad_query, _, _, grad_zeta = results(
        "entmax", (query, key, value, spoilt_zeta), backend="cpu"
    )
    others = torch.arange(66) != at
    for one, other in ((output, clean[0]), (grad_query, clean[1]), (grad_zeta, clean[4])):
        assert one[:, :, at].isnan().all()
        assert_same(one[:, :, others], other[:, :, others])


@forms
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_query_spoils_its_row_only(form, bad):
    inputs = tensors(66, 70, heads=1)
    clean = results(form, inputs, backend="cpu")
    spoilt = [x.clone() for x in inputs]
    spoilt[0][0, 0, 33, 2] = bad
    others = torch.arange(66) != 33
    output, grad_query, grad_key, *_ = results(form, spoilt, backend="cpu")
    assert output[:, :, 33].isnan().any()
    assert grad_key.isnan().all(), "the key gets a share of every query's gradient"
    assert_same(output[:, :, others], clean[0][:, :, others])
    assert_same(grad_query[:, :, others], clean[1][:, :, others])


@pytest.mark.parametrize("length", [5, 6, 7, 67])
def test_an_infinite_value_stays_in_its_head(length):
    """Also past the last row, which the guards around every array watch."""
    query, key, value, _ = tensors(length, 70, heads=3)
    inputs = (query, key, value, torch.zeros(1, 3, length))
    clean, *_ = results("entmax", inputs, backend="cpu")
    value[0, ::2, 0] = torch.inf
    output, *_ = results("entmax", inputs, backend="cpu")
    assert not output[:, ::2].isfinite().any()
    assert torch.equal(output[:, 1], clean[:, 1])


@forms
@both_directions
def test_strided_and_expanded_inputs(form, is_causal):
    query, key, value, zeta = tensors(37, 37, batch=2, heads=3)
    packed = [query, key, value, zeta]
    expected = results(form, packed, is_causal=is_causal, backend="cpu")
    # as models lay them out, every other channel of a wider one, channels outside, queries outside
    strided = [
        query.transpose(1, 2).contiguous().transpose(1, 2),
        torch.stack([key, key + 1], dim=-1)[..., 0],
        value.movedim(-1, 0).contiguous().movedim(0, -1),
        zeta.transpose(0, 2).contiguous().transpose(0, 2),
    ]
    assert not any(x.is_contiguous() for x in strided)
    for a, b in zip(
        results(form, strided, is_causal=is_causal, backend="cpu"), expected, strict=True
    ):
        assert torch.equal(a, b)
    # one head shown six times, and a gradient that is one number
    shown = [x[:1, :1].expand(2, 3, *x.shape[2:]) for x in packed]
    copied = [x.contiguous() for x in shown]
    one = torch.ones(()).expand(expected[0].shape)
    for a, b in zip(
        results(form, shown, one, backend="cpu"),
        results(form, copied, one.contiguous(), backend="cpu"),
        strict=True,
    ):
        assert torch.equal(a, b)


@forms
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(form, dtype):
    query, key, value, zeta = tensors(70, 70)
    narrow = [*(x.to(dtype) for x in (query, key, value)), zeta]
    wide = [x.float() for x in narrow]
    upstream = torch.randn(results(form, narrow)[0].shape).to(dtype).float()
    options = {"is_causal": True, "backend": "cpu"}
    actual = results(form, narrow, upstream, **options)
    expected = results(form, wide, upstream, **options)
    assert actual[0].dtype == (torch.float32 if form == "statistics" else dtype)
    assert torch.equal(actual[0], expected[0].to(actual[0].dtype))
    if form == "aes":
        # two gradients meet in every input, through the weights and through their sparsity
        options["backend"] = "reference"
        plain = results(form, narrow, upstream, **options)
        truth = results(form, [x.double() for x in narrow], upstream, **options)
        for one, other, true in zip(actual, plain, truth, strict=True):
            assert_as_accurate_as(one, other, true)
    else:
        for one, other in zip(actual, expected, strict=True):
            assert torch.equal(one, other.to(one.dtype))


@forms
def test_scales_and_offsets_of_the_scores(form):
    query, key, value, zeta = tensors(33, 70)
    for scale in (0.0, 1e-4, -0.7, 4.0):
        check(form, (query, key, value, zeta), scale=scale)


def test_a_tile_is_whatever_fits(monkeypatch):
    inputs = tensors(130, 130)
    expected = {form: results(form, inputs, is_causal=True, backend="cpu") for form in FORMS}
    monkeypatch.setattr(layout, "_MOST_ROWS", 8)
    for form in FORMS:
        found = results(form, inputs, is_causal=True, backend="cpu")
        for one, other in zip(found, expected[form], strict=True):
            assert_same(one, other)


@forms
@both_directions
@pytest.mark.parametrize("heads", [1, 3])
def test_the_number_of_threads_does_not_matter(form, is_causal, heads):
    """But for the sums over queries, which two threads take by halves."""
    inputs = tensors(300, 300, heads=heads)
    alone = results(form, inputs, is_causal=is_causal, backend="cpu")
    torch.set_num_threads(2)
    try:
        together = results(form, inputs, is_causal=is_causal, backend="cpu")
    finally:
        torch.set_num_threads(1)
    plain = results(form, inputs, is_causal=is_causal, backend="reference")
    truth = results(form, [x.double() for x in inputs], is_causal=is_causal, backend="reference")
    for i, (one, other) in enumerate(zip(alone, together, strict=True)):
        if heads > 1 or i in {0, 1, 4}:
            assert torch.equal(one, other)
        else:
            assert_as_accurate_as(other, plain[i], truth[i])


def test_keys_that_tie_for_the_maximum_share_its_gradient():
    query, key, value, zeta = tensors(9, 35, heads=1)
    # whole numbers: equal keys have equal scores, whatever the order of summation
    key = key.round().repeat(1, 1, 2, 1)
    check("statistics", (query.round(), key, value.repeat(1, 1, 2, 1), zeta), scale=0.5)


def materialised(query, key, mask, dtype):
    scores = query.to(dtype) @ key.to(dtype).mT * query.shape[-1] ** -0.5
    return scores, mask & causal_mask(*scores.shape[-2:], scores.device)


FIELDS = ("max_score", "min_entropy", "entropy", "collision_entropy", "varentropy",
          "third_cumulant", "num_states", "log_partition")  # fmt: skip


def test_row_statistics_are_those_of_the_scores():
    query, key, _, _ = tensors(67, 130, heads=3)
    mask = torch.rand(1, 3, 67, 130) > 0.2
    found = attention_row_statistics(query, key, mask=mask, is_causal=True, backend="cpu")
    plain, truth = (
        gibbs_statistics(scores, mask=seen)
        for scores, seen in (
            materialised(query, key, mask, dtype) for dtype in (torch.float32, torch.float64)
        )
    )
    occupied = truth.num_states > 0
    assert torch.equal(found.num_states.double(), truth.num_states.double())
    for name in FIELDS:
        a, b, c = (getattr(s, name)[occupied] for s in (found, plain, truth))
        assert_as_accurate_as(a, b.float(), c.double())
    assert torch.equal(found.temperature, torch.ones_like(found.entropy))


def test_statistics_that_attentions_report():
    query, key, value, _ = tensors(67, 130, heads=3)
    mask = torch.rand(1, 3, 67, 130) > 0.2
    options = {"mask": mask, "is_causal": True, "return_statistics": True}
    _, softmax = softmax_attention(query, key, value, backend="cpu", **options)
    _, aes = aes_attention(query, key, value, schedule=SmoothStep(), backend="cpu", **options)
    plain, truth = (
        gibbs_statistics(scores, mask=seen)
        for scores, seen in (
            materialised(query, key, mask, dtype) for dtype in (torch.float32, torch.float64)
        )
    )
    for found in (softmax, aes):
        for name in ("entropy", "varentropy"):
            assert_as_accurate_as(*(getattr(s, name) for s in (found, plain, truth)))
        assert torch.equal(found.num_keys.double(), truth.num_states.double())
    assert torch.equal(softmax.support_size, softmax.num_keys)
    assert (softmax.zeta == 0).all()
    _, reference = aes_attention(
        query, key, value, schedule=SmoothStep(), backend="reference", **options
    )
    assert torch.equal(aes.support_size, reference.support_size)
    assert_same(aes.zeta, reference.zeta)
