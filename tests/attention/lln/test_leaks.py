"""Proven absent: leaks from the future, other samples and padding, in outputs and gradients."""

import copy

import pytest
import torch

from gibbsian.attention.lln import LLN, LLNDiag, lln_attention, lln_diag_attention
from tests.attention.lln.cases import make
from tests.tolerances import assert_identity

NEW = 70  # not at a chunk's or block's edge
LENGTH = 150


def warm(module):
    """In training for two batches: the first has joined the averages."""
    for seed in range(2):
        torch.manual_seed(seed)
        module(*torch.randn(3, 2, 2, 30, 4, dtype=torch.float64) * 1.5, is_causal=True)
    return module


def in_training(module):
    """Each call is the next training step after the same past."""

    def call(*inputs, **options):
        return copy.deepcopy(module)(*inputs, **options)

    return call


def attentions():
    return {
        "lln_attention": lln_attention,
        "lln_diag_attention": lln_diag_attention,
        "LLN, new": LLN().eval(),
        "LLNDiag, new": LLNDiag().eval(),
        "LLN, trained": warm(LLN()).eval(),
        "LLNDiag, trained": warm(LLNDiag(block_size=32)).eval(),
        "LLN, first step": in_training(LLN()),
        "LLN, in training": in_training(warm(LLN())),
        "LLNDiag, in training": in_training(warm(LLNDiag())),
    }


@pytest.fixture(params=attentions())
def attention(request):
    return attentions()[request.param]


def gradients(attention, inputs, rows, **options):
    """Gradients of a sum over `rows` of the output."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    output = attention(*inputs, **options)[rows]
    weights = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype).view_as(output)
    return torch.autograd.grad((output * weights).sum(), inputs)


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_the_past_does_not_feel_the_future(attention, size):
    case = make(LENGTH, LENGTH, causal=True, padding="left")
    inputs = (case.query, case.key, case.value)
    before = attention(*inputs, **case.arguments())
    changed = [x.clone() for x in inputs]
    for x in changed:
        x[:, :, NEW:] += size * torch.randn(x[:, :, NEW:].shape, dtype=torch.float64)
    after = attention(*changed, **case.arguments())
    assert_identity(after[:, :, :NEW], before[:, :, :NEW])
    assert (after[:, :, NEW:] != before[:, :, NEW:]).any()
    if size == 1.0:
        assert torch.equal(after[:, :, :NEW], before[:, :, :NEW])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_later_key_erases_no_row_at_an_absent_key(backend, dtype):
    query, key = torch.zeros(2, 1, 1, 96, 4, dtype=dtype)
    key[:, :, 65:, 0] = 200.0 if dtype == torch.float32 else 2000.0
    present = torch.ones(1, 1, 1, 96, dtype=torch.bool)
    present[..., 64] = False  # where a chunk begins
    ones = torch.ones(1, 1, 96, 2, dtype=dtype)
    scales = {"query_scale": 1.0, "key_scale": 1.0}
    output = lln_attention(
        query, key, ones, mask=present, is_causal=True, backend=backend, **scales
    )
    torch.testing.assert_close(output, ones)


def test_the_length_of_the_future_does_not_matter(attention):
    case = make(LENGTH, LENGTH, causal=True, padding="none")
    inputs = (case.query, case.key, case.value)
    short = attention(*(x[:, :, :NEW] for x in inputs), is_causal=True)
    assert_identity(attention(*inputs, is_causal=True)[:, :, :NEW], short)


def test_no_gradient_flows_to_the_future(attention):
    case = make(LENGTH, LENGTH, causal=True, padding="none")
    inputs = (case.query, case.key, case.value)
    for grad in gradients(
        attention, inputs, (slice(None), slice(None), slice(NEW)), is_causal=True
    ):
        assert (grad[:, :, NEW:] == 0).all()
        assert (grad[:, :, :NEW] != 0).any()


@pytest.mark.parametrize("causal", [False, True])
def test_samples_do_not_feel_each_other(attention, causal):
    case = make(LENGTH, LENGTH, causal=causal, padding="none")
    inputs = (case.query, case.key, case.value)
    before = attention(*inputs, is_causal=causal)
    changed = [x.clone() for x in inputs]
    for x in changed:
        x[1] = 5 * torch.randn(x[1].shape, dtype=torch.float64)
    after = attention(*changed, is_causal=causal)
    assert torch.equal(after[0], before[0])
    assert (after[1] != before[1]).any()
    for grad in gradients(attention, inputs, 0, is_causal=causal):
        assert (grad[1] == 0).all()


@pytest.mark.parametrize("padding", ["left", "right", "holes"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("junk", [1e3, float("nan"), float("inf")])
def test_padding_is_not_felt(attention, causal, padding, junk):
    case = make(LENGTH, LENGTH, causal=causal, padding=padding)
    absent = ~torch.from_numpy(case.present)[:, None, :, None]
    inputs = (case.query, case.key, case.value)
    before = attention(*inputs, **case.arguments())
    # a NaN may stand in absent keys; an absent query is still computed, so it stays finite
    query = case.query + torch.where(absent, 1e3, 0.0)
    key, value = (torch.where(absent, junk, x) for x in (case.key, case.value))
    after = attention(query, key, value, **case.arguments())
    present = ~absent.expand_as(before)
    assert torch.equal(after[present], before[present])
    for grad in gradients(attention, (query, key, value), present, **case.arguments()):
        assert (grad.masked_select(absent) == 0).all()
        assert grad.isfinite().all()


@pytest.mark.parametrize("padding", ["left", "right", "holes"])
@pytest.mark.parametrize("causal", [False, True])
def test_padding_equals_deletion(attention, causal, padding):
    case = make(LENGTH, LENGTH, causal=causal, padding=padding)
    inputs = (case.query, case.key, case.value)
    padded = attention(*inputs, **case.arguments())
    for b, present in enumerate(torch.from_numpy(case.present)):
        alone = attention(*(x[b : b + 1, :, present] for x in inputs), is_causal=causal)
        assert_identity(padded[b : b + 1, :, present], alone)


def test_a_row_without_keys_is_0_and_has_no_gradient(attention):
    case = make(20, 20, causal=True, padding="left")
    inputs = (case.query, case.key, case.value)
    empty = ~torch.from_numpy(case.seen().any(axis=-1))
    assert empty.any()
    assert (attention(*inputs, **case.arguments())[empty] == 0).all()
    for grad in gradients(attention, inputs, slice(None), **case.arguments()):
        assert grad.isfinite().all()
        assert (grad[empty] == 0).all()


def test_the_published_moments_leak():
    # what "tensor" is for: the comparison, and proof that the tests above can fail
    case = make(40, 40, causal=True, padding="none")
    inputs = (case.query, case.key, case.value)
    module = LLN(moments="tensor")
    before = module(*inputs, is_causal=True)
    key = case.key.clone()
    key[1, :, 30:] *= 3
    after = module(case.query, key, case.value, is_causal=True)
    assert (after[0] != before[0]).any()
    assert (after[1, :, :30] != before[1, :, :30]).any()
