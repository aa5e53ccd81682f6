"""What every attention promises, whatever its formula."""

import copy
import json

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.attention import Attention, AttentionStatistics, attention_from_config
from gibbsian.attention.inputs import causal_mask
from tests.attention.cases import ATTENTIONS, QUADRATIC, build, inputs, leaves
from tests.tolerances import assert_gradients, assert_identity, assert_same

every = pytest.mark.parametrize("name", ATTENTIONS)
quadratic = pytest.mark.parametrize("name", QUADRATIC)
both_directions = pytest.mark.parametrize("is_causal", [False, True])


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_output_has_the_shape_and_dtype_of_the_query(name, dtype):
    output = build(name)(*inputs(queries=6, keys=6, dtype=dtype))
    assert output.shape == (2, 4, 6, 5)
    assert output.dtype == dtype
    assert output.isfinite().all()


@every
@pytest.mark.parametrize("length", [1, 63, 130])
@both_directions
def test_any_length(name, length, is_causal):
    query, key, value = inputs(batch=1, queries=length, keys=length)
    output = build(name)(query, key, value, is_causal=is_causal)
    assert output.isfinite().all()
    # a convex combination of the values
    assert (output.amax(dim=2) <= value.amax(dim=2) + 1e-5).all()


@every
@both_directions
@pytest.mark.parametrize("lengths", [(5, 9), (9, 5), (1, 6)])
def test_different_lengths(name, is_causal, lengths):
    queries, keys = lengths
    query, key, value = inputs(queries=queries, keys=keys)
    output, statistics = build(name)(query, key, value, is_causal=is_causal, return_statistics=True)
    assert output.shape == (2, 4, queries, 5)
    visible = causal_mask(queries, keys, query.device).sum(dim=-1) if is_causal else keys
    assert (statistics.num_keys == visible).all()


@every
@both_directions
def test_grouped_queries_equal_repeated_keys(name, is_causal):
    query, key, value = inputs(key_heads=2)
    attention = build(name)
    grouped = attention(query, key, value, is_causal=is_causal, enable_gqa=True)
    repeated = attention(
        query,
        key.repeat_interleave(2, dim=1),
        value.repeat_interleave(2, dim=1),
        is_causal=is_causal,
    )
    assert_same(grouped, repeated)


@every
def test_causality_is_the_top_left_mask(name):
    query, key, value = inputs()
    attention = build(name)
    mask = causal_mask(7, 7, query.device)
    assert_same(
        attention(query, key, value, is_causal=True), attention(query, key, value, mask=mask)
    )


@every
@both_directions
def test_no_output_or_gradient_leaks_from_the_future(name, is_causal):
    query, key, value = inputs()
    attention = build(name)
    changed_key, changed_value = key.clone(), value.clone()
    changed_key[:, :, 5:] += 3.0
    changed_value[:, :, 5:] -= 3.0
    changed_query = query.clone()
    changed_query[:, :, 5:] *= -1.0
    before = attention(query, key, value, is_causal=is_causal)[:, :, :5]
    after = attention(changed_query, changed_key, changed_value, is_causal=is_causal)[:, :, :5]
    query, key, value = leaves(query, key, value)
    attention(query, key, value, is_causal=is_causal)[:, :, :5].square().sum().backward()
    leaks = [tensor.grad[:, :, 5:].abs().max() > 0 for tensor in (query, key, value)]
    if is_causal:
        assert_same(after, before)
        assert not any(leaks)
    else:
        # the same change is seen where it may be
        assert (after - before).abs().max() > 0.1
        assert leaks[2]


@every
def test_samples_do_not_meet(name):
    query, key, value = inputs()
    attention = build(name)
    changed = [tensor.clone() for tensor in (query, key, value)]
    for tensor in changed:
        tensor[1] = tensor[1] * 5 + 1
    before, after = attention(query, key, value), attention(*changed)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    query, key, value = leaves(query, key, value)
    attention(query, key, value)[0].square().sum().backward()
    for tensor in (query, key, value):
        assert tensor.grad[1].abs().max() == 0


@every
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(name, side):
    query, key, value = inputs()
    attention = build(name)
    absent = slice(0, 2) if side == "left" else slice(5, 7)
    present = slice(2, 7) if side == "left" else slice(0, 5)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[1, ..., absent] = False
    alone = attention(query[1:, :, present], key[1:, :, present], value[1:, :, present])
    tensors = leaves(query, key, value)
    padded = attention(*tensors, mask=mask)
    assert_same(padded[1:, :, present], alone)
    padded[:, :, present].square().sum().backward()
    assert tensors[1].grad[1, :, absent].abs().max() == 0
    assert tensors[2].grad[1, :, absent].abs().max() == 0


@every
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_keys_absent_for_all_may_hold_anything(name, bad):
    query, key, value = inputs()
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[1, ..., 4:] = False
    clean = build(name)(query, key, value, mask=mask)
    key[1, :, 4:], value[1, :, 4:] = bad, bad
    tensors = leaves(query, key, value)
    output = build(name)(*tensors, mask=mask)
    assert_same(output, clean)
    output.square().sum().backward()
    for tensor in tensors:
        assert tensor.grad.isfinite().all()


@quadratic
@pytest.mark.parametrize(
    "shape", [(2, 4, 7, 9), (2, 1, 7, 9), (1, 4, 1, 9), (7, 9), (9,), (2, 1, 7, 1), (1, 1, 1, 1)]
)
def test_masks_broadcast(name, shape):
    query, key, value = inputs(keys=9)
    mask = torch.rand(shape) > 0.3
    attention = build(name)
    full = mask.expand(2, 4, 7, 9).clone()
    assert_same(attention(query, key, value, mask=mask), attention(query, key, value, mask=full))


@quadratic
def test_masking_is_deletion(name):
    query, key, value = inputs(keys=9)
    kept = torch.tensor([0, 2, 3, 7])
    mask = torch.zeros(9, dtype=torch.bool)
    mask[kept] = True
    output, statistics = build(name)(query, key, value, mask=mask, return_statistics=True)
    fewer, expected = build(name)(query, key[:, :, kept], value[:, :, kept], return_statistics=True)
    assert_same(output, fewer)
    assert_same(statistics.stack(), expected.stack())


@quadratic
def test_mask_and_causality_together(name):
    query, key, value = inputs()
    mask = torch.rand(2, 1, 7, 7) > 0.4
    both = mask & causal_mask(7, 7, query.device)
    attention = build(name)
    assert_same(
        attention(query, key, value, mask=mask, is_causal=True),
        attention(query, key, value, mask=both),
    )


@quadratic
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_without_keys_are_zero(name, dtype):
    query, key, value = leaves(*inputs(dtype=dtype))
    mask = torch.ones(2, 4, 7, 7, dtype=torch.bool)
    mask[0, 1, 3] = False
    mask[1] = False
    output, statistics = build(name)(query, key, value, mask=mask, return_statistics=True)
    assert output[0, 1, 3].abs().max() == 0
    assert output[1].abs().max() == 0
    assert statistics.support_size[1].abs().max() == 0
    assert statistics.stack().isfinite().all()
    output.square().sum().backward()
    for tensor in (query, key, value):
        assert tensor.grad.isfinite().all()
        assert tensor.grad[1].abs().max() == 0
    assert query.grad[0, 1, 3].abs().max() == 0
    assert query.grad[0, 1, 2].abs().max() > 0


@every
def test_a_batch_element_without_keys_is_zero(name):
    query, key, value = leaves(*inputs())
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    mask[1] = False
    output = build(name)(query, key, value, mask=mask)
    assert output[1].abs().max() == 0
    output.square().sum().backward()
    for tensor in (query, key, value):
        assert tensor.grad.isfinite().all()
        assert tensor.grad[1].abs().max() == 0


@every
def test_no_keys_at_all(name):
    query, key, value = inputs(keys=0)
    output, statistics = build(name)(query, key, value, return_statistics=True)
    assert torch.equal(output, torch.zeros(2, 4, 7, 5))
    assert statistics.num_keys.abs().max() == 0


@every
@both_directions
def test_strided_and_expanded_inputs(name, is_causal):
    query, key, value = inputs(batch=1)
    attention = build(name)
    expected = attention(query, key, value, is_causal=is_causal)
    # (batch, length, heads, dim) in memory, as models make it, and one sample shown three times
    strided = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (query, key, value)]
    assert_same(attention(*strided, is_causal=is_causal), expected)
    wide = [torch.cat([t, t], dim=-1)[..., ::2] for t in (query, key, value)]
    assert_same(
        attention(*wide, is_causal=is_causal),
        attention(*(t.contiguous() for t in wide), is_causal=is_causal),
    )
    expanded = [t.expand(3, -1, -1, -1) for t in (query, key, value)]
    assert_same(attention(*expanded, is_causal=is_causal), expected.expand(3, -1, -1, -1))


@quadratic
def test_the_order_of_the_keys_does_not_matter(name):
    query, key, value = inputs(keys=9, dtype=torch.float64)
    order = torch.randperm(9)
    attention = build(name).double()
    assert_identity(
        attention(query, key[:, :, order], value[:, :, order]), attention(query, key, value)
    )


@every
def test_default_scale(name):
    query, key, value = inputs()
    attention = build(name)
    assert_same(attention(query, key, value, scale=8**-0.5), attention(query, key, value))
    assert not torch.allclose(attention(query, key, value, scale=1.0), attention(query, key, value))


@every
@both_directions
@pytest.mark.parametrize("differentiated", [False, True])
def test_a_scale_that_is_not_positive(name, is_causal, differentiated):
    query, key, value = inputs()
    query.requires_grad_(differentiated)
    attention = build(name)
    mirrored = attention(query, key, value, scale=-0.3, is_causal=is_causal)
    assert_same(mirrored, attention(-query, key, value, scale=0.3, is_causal=is_causal))
    flat = attention(query, key, value, scale=0.0, is_causal=is_causal)
    assert flat.isfinite().all()


@every
@both_directions
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics(name, is_causal, dtype):
    query, key, value = leaves(*inputs(keys=9, dtype=dtype))
    attention = build(name)
    output, statistics = attention(query, key, value, is_causal=is_causal, return_statistics=True)
    assert_same(output, attention(query, key, value, is_causal=is_causal))
    assert isinstance(statistics, AttentionStatistics)
    stacked = statistics.stack()
    assert stacked.shape == (2, 4, 7, 5)
    assert stacked.dtype == torch.float32
    assert AttentionStatistics.unstack(stacked).names == AttentionStatistics.names
    for field in AttentionStatistics.names:
        values = getattr(statistics, field)
        assert not values.requires_grad
        assert values.dtype == torch.float32
    assert (statistics.entropy >= -1e-6).all()
    assert (statistics.entropy <= statistics.num_keys.log() + 1e-5).all()
    assert (statistics.varentropy >= 0).all()
    assert ((statistics.zeta >= 0) & (statistics.zeta <= 1)).all()
    assert (statistics.support_size >= 1).all()
    assert (statistics.support_size <= statistics.num_keys).all()


@every
def test_dropout(name):
    query, _, _ = inputs()
    # equal keys and values of one: a row's output is the sum of its dropped and rescaled weights
    key, value = torch.zeros(2, 4, 7, 8), torch.ones(2, 4, 7, 5)
    attention = build(name)
    undropped = attention(query, key, value)
    dropped = torch.stack([attention(query, key, value, dropout_p=0.5) for _ in range(400)])
    assert not torch.equal(dropped[0], undropped)
    # 400 * 56 rows * 7 weights of variance 1/7^2: far below this bound
    assert (dropped.mean() - 1).abs() < 0.01
    torch.manual_seed(3)
    first = attention(query, key, value, dropout_p=0.5)
    torch.manual_seed(3)
    assert torch.equal(attention(query, key, value, dropout_p=0.5), first)


@every
def test_configuration_round_trip(name):
    attention = build(name)
    config = json.loads(json.dumps(attention.to_config()))
    rebuilt = attention_from_config(config).eval()
    assert type(rebuilt) is type(attention)
    assert rebuilt.to_config() == attention.to_config()
    assert_same(rebuilt(*(q := inputs())), attention(*q))


@every
def test_copies_are_independent_and_state_is_kept(name):
    attention = build(name)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    query, key, value = inputs()
    expected = attention(query, key, value)
    assert torch.equal(copy.deepcopy(attention)(query, key, value), expected)
    fresh = build(name)
    fresh.load_state_dict(attention.state_dict())
    assert torch.equal(fresh(query, key, value), expected)
    clone = copy.deepcopy(attention)
    for parameter in clone.parameters():
        torch.nn.init.constant_(parameter, 3.0)
    assert torch.equal(attention(query, key, value), expected)


@every
@both_directions
def test_gradients(name, is_causal):
    if name == "aes detached":
        pytest.skip("cut on purpose: tests/attention/aes/test_gradients.py")
    attention = build(name).double()
    query, key, value = inputs(batch=1, key_heads=2, queries=4, keys=5, head_dim=3, value_dim=2)
    mask = torch.tensor([True, True, False, True, True])

    def output(query, key, value):
        return attention(query, key, value, mask=mask, is_causal=is_causal, enable_gqa=True)

    assert_gradients(output, (query, key, value))


@every
def test_autocast(name):
    query, key, value = inputs()
    attention = build(name)
    rounded = leaves(query.bfloat16(), key.bfloat16(), value.bfloat16())
    expected = attention(*rounded)
    expected.float().square().sum().backward()
    mixed = leaves(query, key.bfloat16(), value.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # a normalised query is float32 where value is bfloat16: SDPA takes the mixture
        output = attention(*mixed)
        assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected)
    output.float().square().sum().backward()
    for one, other in zip(mixed, rounded, strict=True):
        assert torch.equal(one.grad.bfloat16(), other.grad)


@every
def test_sdpa_arguments_that_do_not_fit(name):
    query, key, value = inputs()
    attention = build(name)
    with pytest.raises(ArgumentError, match="`enable_gqa=True`"):
        attention(query, key[:, :2], value[:, :2])
    with pytest.raises(ArgumentError, match=r"`dropout_p` must lie in \[0, 1\), got 1.0"):
        attention(query, key, value, dropout_p=1.0)
    with pytest.raises(ArgumentError, match=r"`mask` must broadcast .* got \(7, 8\)"):
        attention(query, key, value, mask=torch.ones(7, 8, dtype=torch.bool))


@pytest.mark.compile
# torch's own, where it resumes after a part that it runs as it is
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@every
def test_compiles(name):
    query, key, value = leaves(*inputs())
    attention = build(name)
    expected = attention(query, key, value, is_causal=True)
    gradients = torch.autograd.grad(expected.square().sum(), (query, key, value))
    compiled = torch.compile(attention)
    output = compiled(query, key, value, is_causal=True)
    assert_same(output, expected)
    actual = torch.autograd.grad(output.square().sum(), (query, key, value))
    for one, other in zip(actual, gradients, strict=True):
        assert_same(one, other)


def test_every_attention_is_an_attention():
    assert all(isinstance(build(name), Attention) for name in ATTENTIONS)
