"""AES attention against its equations, and its two limits."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from gibbsian._errors import ArgumentError
from gibbsian.attention import AES, aes_attention, entmax_attention
from gibbsian.attention.inputs import causal_mask
from gibbsian.normalizers import Constant, LearnableConstant, Linear, SmoothStep
from tests.attention.cases import inputs
from tests.oracles import schedules
from tests.oracles.attention import attend
from tests.tolerances import assert_as_accurate_as, assert_identity, assert_same


def sparsity(name, **options):
    def zeta(statistics):
        return schedules.ramp(
            name,
            float(statistics["entropy"]),
            float(statistics["varentropy"]),
            statistics["num_states"],
            **options,
        )

    return zeta


@pytest.mark.parametrize("direction", ["concentrate_low", "concentrate_high"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_oracle(direction, is_causal):
    query, key, value = inputs(key_heads=2, keys=9, dtype=torch.float64)
    mask = torch.rand(2, 1, 7, 9) > 0.2
    mask[0, 0, 3] = False
    seen = mask.expand(2, 4, 7, 9)
    if is_causal:
        seen = seen & causal_mask(7, 9, query.device)
    options = {"low": 0.3, "high": 0.95, "zeta_max": 0.9, "direction": direction}
    output, statistics = aes_attention(
        query,
        key,
        value,
        schedule=SmoothStep(**options),
        mask=mask,
        is_causal=is_causal,
        scale=0.7,
        enable_gqa=True,
        return_statistics=True,
    )
    expected, reported = attend(
        query, key, value, zeta=sparsity("smooth_step", **options), seen=seen.numpy(), scale=0.7
    )
    assert_identity(output, torch.from_numpy(expected))
    for name, values in reported.items():
        assert_identity(getattr(statistics, name), torch.from_numpy(values))
    # the case has rows of all kinds
    assert statistics.zeta.min() < 0.1
    assert statistics.zeta.max() == 0.9
    assert (statistics.support_size < statistics.num_keys).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_as_accurate_as_sdpa(dtype):
    query, key, value = (t.to(dtype) for t in inputs(queries=63, keys=63, head_dim=32))
    exact = [t.double() for t in (query, key, value)]
    assert_as_accurate_as(
        aes_attention(query, key, value, schedule=Constant(zeta=0.0)),
        scaled_dot_product_attention(query, key, value),
        scaled_dot_product_attention(*exact),
    )


@pytest.mark.parametrize("mask_shape", [None, (2, 1, 7, 9), (2, 1, 1, 9)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_constant_zero_is_sdpa(mask_shape, is_causal):
    tensors = [t.requires_grad_() for t in inputs(key_heads=2, keys=9)]
    mask = None if mask_shape is None else torch.rand(mask_shape) > 0.3
    seen = torch.ones(7, 9, dtype=torch.bool) if mask is None else mask
    if is_causal:
        seen = seen & causal_mask(7, 9, seen.device)
    # torch promises nothing for rows without keys
    seen = seen.expand(2, 4, 7, 9)
    occupied = seen.any(dim=-1, keepdim=True)
    expected = scaled_dot_product_attention(*tensors, attn_mask=seen | ~occupied, enable_gqa=True)
    expected = torch.where(occupied, expected, 0.0)
    actual = aes_attention(
        *tensors, schedule=Constant(zeta=0.0), mask=mask, is_causal=is_causal, enable_gqa=True
    )
    assert_same(actual, expected)
    cotangent = torch.randn_like(actual)
    for one, other in zip(
        torch.autograd.grad(actual, tensors, cotangent),
        torch.autograd.grad(expected, tensors, cotangent),
        strict=True,
    ):
        assert_same(one, other)


@pytest.mark.parametrize("zeta", [0.3, 1.0])
def test_constant_is_entmax_attention(zeta):
    query, key, value = inputs()
    output, statistics = aes_attention(
        query, key, value, schedule=Constant(zeta=zeta), is_causal=True, return_statistics=True
    )
    expected, reported = entmax_attention(
        query, key, value, zeta=zeta, is_causal=True, return_statistics=True
    )
    assert torch.equal(output, expected)
    assert torch.equal(statistics.stack(), reported.stack())


def test_a_schedule_of_the_users_own():
    query, key, value = inputs()

    def by_largest_probability(statistics):
        return statistics.max_prob

    _, statistics = aes_attention(
        query, key, value, schedule=by_largest_probability, return_statistics=True
    )
    scores = query @ key.mT * 8**-0.5
    assert_same(statistics.zeta, scores.softmax(dim=-1).amax(dim=-1))


def test_schedule_of_the_wrong_shape():
    query, key, value = inputs()
    message = r"`schedule` must return one sparsity a row, shape \(2, 4, 7\), got \(4,\)"
    with pytest.raises(ArgumentError, match=message):
        aes_attention(query, key, value, schedule=lambda _: torch.zeros(4))


def test_learnable_schedule_learns_where_statistics_are_detached():
    query, key, value = inputs()
    attention = AES(schedule=LearnableConstant(num_heads=4, zeta=0.4), detach_statistics=True)
    attention(query, key, value).square().sum().backward()
    (parameter,) = attention.parameters()
    assert parameter.grad.shape == (4,)
    assert (parameter.grad != 0).all()


def test_vmap():
    tensors = [torch.stack([t, 2 * t]) for t in inputs()]

    def attend_to(query, key, value):
        return aes_attention(query, key, value, schedule=Linear())

    assert_same(
        torch.func.vmap(attend_to)(*tensors),
        torch.stack([attend_to(*(t[i] for t in tensors)) for i in range(2)]),
    )


def test_rejects_a_schedule_that_is_none():
    # with run-time type checks, theirs comes first
    with pytest.raises((ArgumentError, TypeError), match="schedule"):
        AES(schedule=0.5)


def test_shown_with_its_schedule():
    assert "low=0.3" in repr(AES(schedule=Linear(low=0.3)))
    assert "LearnableConstant" in repr(AES(schedule=LearnableConstant(num_heads=None)))


@pytest.mark.parametrize(
    ("schedule", "detach", "expected"),
    [
        (SmoothStep(), True, 1),
        (SmoothStep(), False, 2),
        (LearnableConstant(num_heads=4), True, 2),
    ],
)
def test_tensors_of_the_size_of_the_scores_kept_for_the_backward_pass(schedule, detach, expected):
    query, key, value = (t.requires_grad_() for t in inputs(queries=40, keys=40))
    kept = {}

    def pack(tensor):
        if tensor.shape == (2, 4, 40, 40) and tensor.is_floating_point():
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    attention = AES(schedule=schedule, detach_statistics=detach)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = attention(query, key, value, is_causal=True, backend="reference")
    assert output.requires_grad
    # the weights; and the scores, which the statistics and the gradient in zeta share
    assert len(kept) == expected
