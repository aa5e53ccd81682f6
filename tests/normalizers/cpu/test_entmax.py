"""The compiled entmax is the reference: values, both gradients, every kind of row."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from gibbsian.normalizers import entmax
from tests.tolerances import (
    ENTMAX_PROBABILITY_ERROR,
    NORMALISATION_ERROR,
    assert_as_accurate_as,
    assert_same,
)

pytest.importorskip("numba")

from gibbsian.normalizers.cpu.entmax import _entmax_rows_backward, entmax_rows
from gibbsian.normalizers.cpu.row import SOFTMAX_ZETA

ZETAS = [0.0, 1e-9, 0.9e-7, 1e-7, 1.1e-7, 1e-4, 0.05, 0.3, 0.5, 0.9, 1.0]
finite = st.floats(-100, 100, width=32)
INFINITY = float("inf")


@pytest.fixture(autouse=True)
def _uninitialised_memory_is_nan():
    """What a kernel returns without having written it shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def truth_of(scores, zeta, mask=None):
    return entmax(scores.double(), zeta.double(), mask=mask, backend="reference")


def check_values(scores, zeta, mask=None):
    """Rows of any kind: accurate where the truth is a number, NaN where it is NaN."""
    probs = entmax(scores, zeta, mask=mask, backend="cpu")
    truth = truth_of(scores, zeta, mask)
    assert torch.equal(probs.isnan(), truth.isnan())
    error = (probs.double() - truth).nan_to_num().abs().max()
    assert error <= ENTMAX_PROBABILITY_ERROR
    total = probs.double().sum(dim=-1)
    expected = truth.sum(dim=-1).round()
    assert ((total - expected).nan_to_num().abs() <= NORMALISATION_ERROR).all()
    assert ((probs >= 0) | probs.isnan()).all()


@given(
    scores=st.lists(finite | st.sampled_from([0.0, 1.0, -INFINITY]), min_size=1, max_size=9),
    zeta=st.floats(0, 1, width=32) | st.sampled_from(ZETAS),
    offset=st.sampled_from([0.0, 1e6, -1e6, 1e30]),
)
@example([0.0], 0.5, 0.0)
@example([-INFINITY], 0.5, 0.0)
@example([3.0, 3.0, 3.0, -INFINITY], 1.0, 1e6)
@example([1.0, 0.0], 1.0, 0.0)
@example([50.0, 0.0], 1e-4, 0.0)
def test_any_row(scores, zeta, offset):
    check_values(torch.tensor([scores]) + offset, torch.tensor([[zeta]]))


@given(data=st.data(), rows=st.integers(1, 6), states=st.sampled_from([1, 2, 63, 64, 65]))
def test_any_rows_with_masks(data, rows, states):
    seed = data.draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    spread = data.draw(st.sampled_from([0.0, 1e-3, 1.0, 10.0, 1e4]))
    scores = torch.randn(rows, states, generator=generator) * spread
    zeta = torch.tensor(data.draw(st.lists(st.sampled_from(ZETAS), min_size=rows, max_size=rows)))
    share = data.draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    mask = torch.rand(rows, states, generator=generator) >= share
    check_values(scores, zeta.unsqueeze(-1), mask)


@given(
    bad=st.sampled_from([torch.nan, INFINITY]),
    states=st.integers(1, 130),
    at=st.integers(0, 129),
    zeta=st.sampled_from(ZETAS),
)
@example(torch.nan, 1, 0, 0.5)
@example(torch.nan, 130, 129, 1.0)
def test_a_bad_score_spoils_its_row_only(bad, states, at, zeta):
    scores = torch.randn(3, states)
    scores[1, at % states] = bad
    probs = entmax(scores, zeta, backend="cpu")
    assert probs[1].isnan().all()
    assert torch.equal(probs[::2], entmax(scores[::2], zeta, backend="cpu"))


@pytest.mark.parametrize("bad", [-1e-3, 1.001, torch.nan, INFINITY, -INFINITY])
def test_an_invalid_sparsity_spoils_its_row_only(bad):
    scores = torch.randn(3, 70)
    zeta = torch.tensor([[0.5], [bad], [0.0]])
    probs = entmax(scores, zeta, backend="cpu")
    assert probs[1].isnan().all()
    check_values(scores[::2], zeta[::2])
    assert torch.equal(probs[::2], entmax(scores[::2], zeta[::2], backend="cpu"))
    # up to rounding it is taken as the end of the range
    near = torch.tensor([[-5e-7], [1 + 5e-7], [0.0]])
    check_values(scores, near.clamp(0, 1))
    assert_same(
        entmax(scores, near, backend="cpu"), entmax(scores, near.clamp(0, 1), backend="cpu")
    )


def results(backend, scores, zeta, upstream):
    scores, zeta = (x.detach().clone().requires_grad_() for x in (scores, zeta))
    probs = entmax(scores, zeta, backend=backend)
    gradients = torch.autograd.grad(probs, (scores, zeta), upstream.to(probs.dtype))
    return [probs.detach(), *gradients]


def check_gradients(scores, zeta, upstream):
    fast = results("cpu", scores, zeta, upstream)
    plain = results("reference", scores, zeta, upstream)
    truth = results("reference", scores.double(), zeta.double(), upstream)
    _, slopes = torch.func.jvp(
        lambda z: entmax(scores.double(), z, backend="reference"),
        (zeta.double(),),
        (torch.ones_like(zeta).double(),),
    )
    responses = truth[0] ** (1 - zeta) * (truth[0] > 0)
    # in every row, of the products that are added up
    scales = [
        torch.zeros(len(scores)),
        (responses * upstream).abs().amax(dim=-1),
        torch.maximum(
            (slopes * upstream).abs().sum(dim=-1), (truth[0] * upstream).abs().amax(dim=-1)
        ),
    ]
    for a, b, c, scale in zip(fast, plain, truth, scales, strict=True):
        for i in range(len(scores)):
            if 0 < zeta[i] < SOFTMAX_ZETA:
                # softmax by definition of the kernels: checked where it is 0
                continue
            assert_as_accurate_as(a[i], b[i], c[i], scale=float(scale[i]))


@pytest.mark.parametrize("states", [1, 2, 63, 64, 65, 1000])
@pytest.mark.parametrize("spread", [0.01, 1.0, 5.0])
def test_values_and_gradients(states, spread):
    """Rows mostly on the support and mostly off it, which two pieces of code handle."""
    scores = torch.randn(len(ZETAS), states) * spread
    zeta = torch.tensor(ZETAS).unsqueeze(-1)
    check_values(scores, zeta)
    check_gradients(scores, zeta, torch.randn_like(scores))


@pytest.mark.parametrize("zeta", [0.0, 1e-3, 0.5, 1.0])
@pytest.mark.parametrize("spread", [0.01, 3.0])
def test_a_hundred_thousand_states(zeta, spread):
    scores = torch.randn(2, 100_000) * spread
    zeta = torch.full((2, 1), zeta)
    check_values(scores, zeta)
    check_gradients(scores, zeta, torch.randn_like(scores))


def test_gradients_of_rows_with_absent_states_and_none():
    scores = torch.randn(4, 70)
    scores[0, ::2] = -INFINITY
    scores[1] = -INFINITY
    scores[2, 1:] = -INFINITY
    scores[3, 3:6] = scores[3].max()
    for zeta in ZETAS:
        sparsity = torch.full((4, 1), zeta)
        upstream = torch.randn_like(scores)
        check_gradients(scores, sparsity, upstream)
        _, grad_scores, grad_zeta = results("cpu", scores, sparsity, upstream)
        assert (grad_scores[scores == -INFINITY] == 0).all()
        assert grad_zeta[1] == 0


def test_an_infinite_gradient_off_the_support_has_no_influence():
    scores = torch.tensor([[2.0, 1.9, -5.0], [9.0, -9.0, -9.0]])
    upstream = torch.tensor([[1.0, -1.0, INFINITY], [1.0, INFINITY, torch.nan]])
    _, grad_scores, grad_zeta = results("cpu", scores, torch.ones(2, 1), upstream)
    assert torch.equal(grad_scores, torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert grad_zeta.isfinite().all()


def test_gradients_where_only_one_is_wanted():
    scores, zeta = torch.randn(5, 40), torch.rand(5, 1)
    upstream = torch.randn(5, 40)
    _, both_scores, both_zeta = results("cpu", scores, zeta, upstream)
    x, z = scores.clone().requires_grad_(), zeta.clone().requires_grad_()
    (alone,) = torch.autograd.grad(entmax(x, zeta, backend="cpu"), x, upstream)
    assert torch.equal(alone, both_scores)
    (alone,) = torch.autograd.grad(entmax(scores, z, backend="cpu"), z, upstream)
    assert torch.equal(alone, both_zeta)


def test_second_derivatives_are_the_reference_s():
    scores, zeta = torch.randn(4, 9), torch.tensor([[0.05], [0.3], [0.6], [0.9]])
    weights = torch.randn(2, 4, 9)

    def second(backend):
        x, z = scores.clone().requires_grad_(), zeta.clone().requires_grad_()
        probs = entmax(x, z, backend=backend)
        first = torch.autograd.grad((probs * weights[0]).sum(), (x, z), create_graph=True)
        scalar = (first[0] * weights[1]).sum() + first[1].square().sum()
        return [*first, *torch.autograd.grad(scalar, (x, z))]

    for one, other in zip(second("cpu"), second("reference"), strict=True):
        assert other.abs().max() > 0
        assert_same(one, other)


@pytest.mark.parametrize("shape", [(3, 100_000), (5000, 40), (1, 70)])
def test_the_number_of_threads_does_not_matter(shape):
    scores = torch.randn(shape) * 2
    zeta = torch.rand(shape[0], 1)
    upstream = torch.randn(shape)
    alone = results("cpu", scores, zeta, upstream)
    torch.set_num_threads(2)
    try:
        together = results("cpu", scores, zeta, upstream)
    finally:
        torch.set_num_threads(1)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_strides_and_dimensions():
    scores, zeta = torch.randn(4, 70, 3), torch.rand(4, 1, 3)
    upstream = torch.randn(3, 4, 70)

    def call(x, z):
        return entmax(x, z, dim=1, backend="cpu").permute(2, 0, 1)

    strided = [x.clone().requires_grad_() for x in (scores, zeta)]
    packed = [x.permute(2, 0, 1).contiguous().requires_grad_() for x in (scores, zeta)]
    one = call(*strided)
    other = entmax(*packed, backend="cpu")
    assert torch.equal(one, other)
    for a, b in zip(
        torch.autograd.grad(one, strided, upstream),
        torch.autograd.grad(other, packed, upstream),
        strict=True,
    ):
        assert torch.equal(a.permute(2, 0, 1), b)
    # gradients that are one number shown many times
    x = scores.clone().requires_grad_()
    (grad,) = torch.autograd.grad(entmax(x, 0.5, dim=1, backend="cpu").sum(), x)
    assert_same(grad, torch.zeros_like(grad))


def test_operators_keep_torch_s_rules():
    scores, zeta = torch.randn(3, 9), torch.tensor([0.0, 0.5, 1.0])
    probs, log_maxima = entmax_rows(scores, zeta)
    torch.library.opcheck(entmax_rows, (scores.requires_grad_(), zeta.requires_grad_()))
    saved = (torch.randn(3, 9), scores.detach(), zeta.detach(), probs, log_maxima)
    for needs_zeta in (False, True):
        torch.library.opcheck(_entmax_rows_backward, (*saved, needs_zeta))
