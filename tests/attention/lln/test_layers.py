"""The modules: running moments, what they keep, and their configuration."""

import copy

import pytest
import torch

from gibbsian.attention.lln import LLN, LLNDiag, lln_attention, matched_scales
from gibbsian.attention.lln.moments import element_variance
from tests.tolerances import assert_identity, assert_same

SHAPE = (2, 3, 20, 4)


def batch(seed, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    return size * query, key, value


def by_scales(inputs, query_variance, key_variance, **options):
    query_scale, key_scale = matched_scales(query_variance, key_variance, head_dim=4)
    return lln_attention(*inputs, query_scale=query_scale, key_scale=key_scale, **options)


def head_variances(x):
    return x.var(dim=(0, 2, 3), correction=0).float()


def test_a_batch_is_served_by_the_batches_before_it():
    module = LLN(momentum=0.25)
    one = torch.ones(3)
    batches = [batch(seed, size=1 + seed) for seed in range(7)]
    averages = torch.stack([one, one])
    for count, inputs in enumerate(batches):
        if count > 0:
            joined = torch.stack([head_variances(x) for x in batches[count - 1][:2]])
            # the mean of all so far, until the momentum outweighs it
            averages = averages + max(0.25, 1 / count) * (joined - averages)
        output = module(*inputs, is_causal=True)
        expected = by_scales(inputs, *averages, is_causal=True)
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    module.eval()
    state = copy.deepcopy(module.state_dict())
    module(*batch(9, size=10.0))
    assert all(torch.equal(state[name], x) for name, x in module.state_dict().items())


def test_a_second_pass_over_a_batch_finds_the_same_scales():
    # gradient checkpointing
    module = LLN()
    for seed in range(3):
        inputs = batch(seed, size=1 + seed)
        first = module(*inputs)
        state = copy.deepcopy(module.state_dict())
        assert torch.equal(module(*inputs), first)
        assert all(torch.equal(state[name], x) for name, x in module.state_dict().items())


def test_gradient_checkpointing_gives_the_same_gradients():
    grads = []
    for checkpointed in (False, True):
        module = LLN()
        for seed in range(3):
            inputs = [x.requires_grad_() for x in batch(seed, size=1 + seed)]
            if checkpointed:
                output = torch.utils.checkpoint.checkpoint(module, *inputs, use_reentrant=False)
            else:
                output = module(*inputs)
            grad = torch.autograd.grad(output.square().sum(), inputs)
        grads.append(grad)
    for actual, expected in zip(*grads, strict=True):
        assert torch.equal(actual, expected)


def test_padding_is_left_out_of_the_running_variances():
    query, key, value = batch(0)
    mask = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    mask[1, ..., :7] = False
    junk = torch.where(mask.mT, 0.0, 100.0)
    states = []
    for extra in (0.0, junk):
        module = LLN()
        for _ in range(2):
            module(query + extra, key + extra, value, mask=mask)
            query = query.flip(1)  # another batch
        module(query + extra, key + extra, value, mask=mask)
        states.append(module.state_dict())
    assert states[0]["scales.running.num_batches"] == 2
    for name, x in states[0].items():
        assert torch.equal(x, states[1][name])


def test_a_batch_that_overflowed_teaches_nothing():
    module = LLN()
    module(*batch(0, size=float("inf")))
    module(*batch(1))
    module(*batch(2))
    variances = module.state_dict()["scales.running.variances"]
    assert_same(variances, torch.stack([head_variances(x) for x in batch(1)[:2]]))


def test_running_variances_stay_wide_in_a_narrow_model():
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    made_narrow = LLN()
    torch.set_default_dtype(default)
    wide = LLN()
    for seed in range(3):
        wide(*batch(seed, size=1.3))
    narrow = copy.deepcopy(wide).to(torch.bfloat16)
    assert torch.equal(narrow.scales.running.variances, wide.scales.running.variances)
    for seed in range(3, 5):
        narrow(*(x.bfloat16() for x in batch(seed)))
    for module in (made_narrow, narrow, copy.deepcopy(wide).half()):
        module.load_state_dict(wide.bfloat16().state_dict())
        for name in ("variances", "pending"):
            assert getattr(module.scales.running, name).dtype == torch.float32
            expected = getattr(wide.scales.running, name)
            assert torch.equal(getattr(module.scales.running, name), expected)
    assert wide.double().scales.running.variances.dtype == torch.float64


@pytest.mark.parametrize("module_type", [LLN, LLNDiag])
def test_running_variances_are_saved_and_loaded(module_type):
    module = module_type()
    for seed in range(3):
        module(*batch(seed, size=2.0))
    fresh = module_type()
    fresh.load_state_dict(module.state_dict())
    assert_same(fresh.eval()(*batch(7)), module.eval()(*batch(7)))
    # and a resumed run goes on as the other one
    fresh.train()
    module.train()
    for seed in range(3, 5):
        assert torch.equal(fresh(*batch(seed)), module(*batch(seed)))
    # untrained over trained
    module.load_state_dict(module_type().state_dict())
    assert module.state_dict()["scales.running.variances"].shape == (2, 0)


def test_grouped_heads_have_variances_of_their_own():
    query, key, value = batch(0)
    module = LLN()
    for _ in range(2):
        module(query, key[:, :1], value[:, :1], enable_gqa=True)
        query = query.flip(0) + 1
    assert module.state_dict()["scales.running.variances"].shape == (2, 3)


def test_another_number_of_heads_is_refused():
    module = LLN()
    module(*batch(0))
    with pytest.raises(ValueError, match="`query` must have the 3 heads"):
        module(*(x[:, :2] for x in batch(1)))


def test_head_moments_are_those_of_each_sample_and_head():
    inputs = batch(0, size=1.5)
    output = LLN(moments="head")(*inputs)
    variances = [x.var(dim=(2, 3), correction=0) for x in inputs[:2]]
    assert_identity(output, by_scales(inputs, *variances))
    assert_identity(output, lln_attention(*inputs))
    with pytest.raises(ValueError, match=r'`moments` must not be "head" for causal attention'):
        LLN(moments="head")(*inputs, is_causal=True)


def test_tensor_moments_are_those_of_the_whole_input():
    inputs = batch(0, size=1.5)
    variances = [x.var(correction=0) for x in inputs[:2]]
    assert_identity(LLN(moments="tensor")(*inputs), by_scales(inputs, *variances))


def test_fixed_scales_need_no_state():
    inputs = batch(0)
    module = LLN(query_scale=2.0, key_scale=2.1)
    assert module.state_dict() == {}
    expected = lln_attention(*inputs, query_scale=2.0, key_scale=2.1, is_causal=True)
    assert_identity(module(*inputs, is_causal=True), expected)


def test_variance_over_present_positions():
    x = torch.randn(SHAPE, dtype=torch.float64)
    present = torch.rand(2, 1, 20) > 0.4
    expected = torch.stack(
        [
            torch.stack([head[p].var(correction=0) for head in s])
            for s, (p,) in zip(x, present, strict=True)
        ]
    )
    assert_identity(element_variance(x, present)[..., 0, 0], expected)
    assert_identity(element_variance(x, torch.zeros(2, 1, 20).bool()), 0.0)
    assert_identity(element_variance(x)[..., 0, 0], x.var(dim=(2, 3), correction=0))


@pytest.mark.parametrize(
    "module",
    [
        LLN(),
        LLN(moments="head", momentum=0.5),
        LLN(query_scale=2.0, key_scale=1.5),
        LLNDiag(block_size=16),
    ],
)
def test_configuration_builds_it_again(module):
    config = module.to_config()
    name = config.pop("name")
    assert name == module.name
    again = type(module).from_options(config)
    assert again.to_config() == module.to_config()
    assert_identity(again.eval()(*batch(0)), module.eval()(*batch(0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"moments": "batch"}, '`moments` must be "running", "head" or "tensor"'),
        ({"momentum": 0.0}, r"`momentum` must be in \(0, 1\], got 0.0"),
        ({"query_scale": 2.0}, "must be given together"),
        ({"query_scale": 2.0, "key_scale": -1.0}, "`key_scale` must be > 0, got -1.0"),
        ({"block_size": 0}, "`block_size` must be >= 1, got 0"),
        ({"unknown": 1}, "do not fit"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        LLNDiag.from_options(options)
