"""The compiled kernels of LLN against the reference in float64, in outputs and gradients."""

import os
import subprocess
import sys

import pytest
import torch

from gibbsian._errors import BackendUnavailableError
from gibbsian.attention.lln import LLN, LLNDiag, lln_attention, lln_diag_attention
from gibbsian.attention.lln.cpu.bidirectional_op import lln_bidirectional
from gibbsian.attention.lln.cpu.causal_op import lln_causal
from gibbsian.attention.lln.cpu.moments import lln_moments
from gibbsian.attention.lln.moments import element_variance
from tests.tolerances import assert_as_accurate_as, assert_same

FORMS = {
    "lln": lln_attention,
    "diag 1": lambda *x, **o: lln_diag_attention(*x, block_size=1, **o),
    "diag 10": lambda *x, **o: lln_diag_attention(*x, block_size=10, **o),
    "diag 64": lambda *x, **o: lln_diag_attention(*x, block_size=64, **o),
    "diag 300": lambda *x, **o: lln_diag_attention(*x, block_size=300, **o),
}
forms = pytest.mark.parametrize("form", FORMS)
both_directions = pytest.mark.parametrize("is_causal", [False, True])


def tensors(queries, keys, *, head_dim=8, value_dim=6, batch=2, heads=2, key_heads=None):
    """Query, key, value with heads inside, as models lay them out, and an upstream gradient."""
    generator = torch.Generator().manual_seed(queries * 1000 + keys)
    key_heads = key_heads or heads
    shapes = ((queries, heads, head_dim), (keys, key_heads, head_dim), (keys, key_heads, value_dim))
    query, key, value = (
        torch.randn(batch, *shape, generator=generator).transpose(1, 2) for shape in shapes
    )
    return query, key, value, torch.randn(batch, heads, queries, value_dim, generator=generator)


def results(function, inputs, upstream):
    """Output and gradients in all inputs."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    output = function(*inputs)
    gradients = torch.autograd.grad(output, inputs, upstream.to(output.dtype))
    return [output.detach(), *gradients]


def check(form, inputs, upstream, **options):
    """The kernels are as accurate as plain torch; scales, if any, are the last two inputs."""

    def attention(backend):
        def call(query, key, value, *scales):
            names = dict(zip(("query_scale", "key_scale"), scales, strict=False))
            return FORMS[form](query, key, value, backend=backend, **names, **options)

        return call

    wide = [x.double() for x in inputs]
    truth = results(attention("reference"), wide, upstream)
    plain = results(attention("reference"), inputs, upstream)
    fast = results(attention("cpu"), inputs, upstream)
    for a, b, c in zip(fast, plain, truth, strict=True):
        assert_as_accurate_as(a, b, c)


@forms
@both_directions
@pytest.mark.parametrize("length", [1, 63, 64, 130, 1000])
def test_any_length(form, is_causal, length):
    *inputs, upstream = tensors(length, length)
    check(form, inputs, upstream, is_causal=is_causal)


@forms
@both_directions
@pytest.mark.parametrize("sizes", [(64, 64), (16, 80), (33, 17), (1, 1)])
def test_any_head_size(form, is_causal, sizes):
    *inputs, upstream = tensors(150, 150, head_dim=sizes[0], value_dim=sizes[1])
    check(form, inputs, upstream, is_causal=is_causal)


@forms
@both_directions
def test_segments_of_long_sequences_join(form, is_causal):
    *inputs, upstream = tensors(2500, 2500, head_dim=16, value_dim=16, batch=1, heads=1)
    check(form, inputs, upstream, is_causal=is_causal)


@forms
@both_directions
@pytest.mark.parametrize("lengths", [(5, 90), (90, 5), (1, 70), (100, 130), (130, 100)])
def test_different_lengths(form, is_causal, lengths):
    *inputs, upstream = tensors(*lengths)
    check(form, inputs, upstream, is_causal=is_causal)


@forms
@both_directions
@pytest.mark.parametrize("padded", [False, True])
def test_rows_that_are_multiplied_where_they_lie_after_lln(form, is_causal, padded):
    # blocks in a pass of their own, of rows that are consecutive all the same
    lengths = (192, 192) if padded else (128, 192)
    *inputs, upstream = tensors(*lengths, head_dim=64, value_dim=64, batch=1)
    mask = torch.ones(1, 1, 1, 192, dtype=torch.bool)
    mask[..., 128:] = False
    check(form, inputs, upstream, is_causal=is_causal, mask=mask if padded else None)


@forms
@pytest.mark.parametrize("lengths", [(70, 100), (100, 70), (1, 50)])
def test_queries_placed_by_a_dense_causal_mask(form, lengths):
    *inputs, upstream = tensors(*lengths)
    mask = torch.ones(*lengths, dtype=torch.bool).tril(lengths[1] - lengths[0])
    check(form, inputs, upstream, mask=mask)


@forms
@both_directions
@pytest.mark.parametrize("padding", ["left", "right", "holes", "all", "one key"])
@pytest.mark.parametrize("lengths", [(150, 150), (20, 150)])
def test_padding(form, is_causal, padding, lengths):
    *inputs, upstream = tensors(*lengths)
    present = torch.ones(2, lengths[1], dtype=torch.bool)
    if padding == "left":
        present[1, :70] = False
    elif padding == "right":
        present[1, 70:] = False
    elif padding == "holes":
        present = torch.rand(present.shape) > 0.3
    else:
        present[1] = False
        present[1, 30] = padding == "one key"
    mask = present[:, None, None, :]
    # Not matched: the variance of one row would pass on rounding where no gradient is.
    scales = [torch.full((2,), 2.0)] * 2 if padding in {"all", "one key"} else []
    check(form, [*inputs, *scales], upstream, is_causal=is_causal, mask=mask)


@forms
@both_directions
def test_scales_have_gradients(form, is_causal):
    *inputs, upstream = tensors(150, 150)
    scales = [torch.tensor([1.5, 2.5]), torch.tensor([[2.0], [3.0]])]
    check(form, [*inputs, *scales], upstream, is_causal=is_causal)


@forms
@both_directions
def test_grouped_keys(form, is_causal):
    *inputs, upstream = tensors(70, 70, heads=6, key_heads=2)
    check(form, inputs, upstream, is_causal=is_causal, enable_gqa=True)


@pytest.mark.parametrize("form", ["lln", "diag 10"])
@both_directions
@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_second_derivatives_are_the_reference_s(form, is_causal, matched, masked):
    *inputs, upstream = tensors(25, 25)
    scales = [] if matched else [torch.tensor([1.5, 2.5]), torch.tensor([[2.0], [3.0]])]
    given = [*inputs, *scales, upstream]
    mask = torch.rand(2, 1, 1, 25) > 0.2 if masked else None

    def second(given, backend):
        *inputs, upstream = leaves = [x.clone().requires_grad_() for x in given]
        names = dict(zip(("query_scale", "key_scale"), inputs[3:], strict=False))
        output = FORMS[form](*inputs[:3], mask=mask, is_causal=is_causal, backend=backend, **names)
        first = torch.autograd.grad(output, inputs, upstream, create_graph=True)
        total = sum((g * torch.linspace(-1, 1, g.numel()).view_as(g)).sum() for g in first)
        return [*first, *torch.autograd.grad(total, leaves)]

    truth = second([x.double() for x in given], "reference")
    plain = second(given, "reference")
    for a, b, c in zip(second(given, "auto"), plain, truth, strict=True):
        assert c.abs().max() > 0
        assert_as_accurate_as(a, b, c)


@pytest.mark.parametrize("shape", [(1, 2, 9, 3), (2, 2, 70, 5)])
@pytest.mark.parametrize("masked", [False, True])
def test_second_derivatives_of_moments(shape, masked):
    x, other = torch.randn(shape), torch.randn(shape)
    present = torch.rand(shape[:-1]) > 0.4 if masked else None

    def second(variance):
        elements = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(
            variance(elements).square().sum(), elements, create_graph=True
        )
        return first, *torch.autograd.grad(first.pow(3).sum(), elements)

    for fast, plain in zip(
        second(lambda x: lln_moments(other, x, None, present)[0][1]),
        second(lambda x: element_variance(x, present)[..., 0, 0]),
        strict=True,
    ):
        assert_same(fast, plain)


@both_directions
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(is_causal, dtype):
    *inputs, _ = tensors(100, 100)
    narrow = [x.to(dtype) for x in inputs]
    for function in FORMS.values():
        output = function(*narrow, is_causal=is_causal, backend="cpu")
        wide = function(*(x.float() for x in narrow), is_causal=is_causal, backend="cpu")
        assert torch.equal(output, wide.to(dtype))


@forms
@pytest.mark.parametrize("size", [10.0, 100.0, 1e4, -1e4])
def test_a_key_beyond_the_exponents_range_in_the_middle_of_a_chunk(form, size):
    query, key, value, _ = tensors(130, 130)
    key = key.clone()
    key[:, :, 20, 2] = size
    key[:, :, 21, 3] = 2 * size
    key[:, :, 100, 2] = 3 * size
    inputs = (query, key, value)
    fast, plain = (
        FORMS[form](*inputs, is_causal=True, backend=backend) for backend in ("cpu", "reference")
    )
    wide = (x.double() for x in inputs)
    assert_as_accurate_as(fast, plain, FORMS[form](*wide, is_causal=True, backend="reference"))


@forms
def test_the_past_does_not_feel_the_future(form):
    query, key, value, _ = tensors(150, 150)
    before = FORMS[form](query, key, value, is_causal=True, backend="cpu")
    changed = [x.clone() for x in (query, key, value)]
    for x in changed:
        x[:, :, 70:] += torch.randn(x[:, :, 70:].shape)
    after = FORMS[form](*changed, is_causal=True, backend="cpu")
    assert torch.equal(after[:, :, :70], before[:, :, :70])
    assert not torch.equal(after[:, :, 70:], before[:, :, 70:])


@forms
@both_directions
def test_nan_and_infinity_stay_visible(form, is_causal):
    for bad in (torch.nan, torch.inf):
        query, key, value, _ = tensors(100, 100, batch=1, heads=1)
        key[:, :, 40, 1] = bad
        assert (
            FORMS[form](query, key, value, is_causal=is_causal, backend="cpu")[..., 40, :]
            .isnan()
            .all()
        )


@forms
@both_directions
def test_dropout_drops_what_the_reference_drops(form, is_causal):
    *inputs, _ = tensors(100, 100)
    outputs = []
    for backend in ("cpu", "reference"):
        torch.manual_seed(3)
        outputs.append(FORMS[form](*inputs, is_causal=is_causal, dropout_p=0.5, backend=backend))
    assert_same(*outputs)


@forms
@both_directions
def test_the_number_of_threads_does_not_matter(form, is_causal):
    *inputs, upstream = tensors(2100, 2100, batch=1)

    def call(*inputs):
        return FORMS[form](*inputs, is_causal=is_causal, backend="cpu")

    alone = results(call, inputs, upstream)
    torch.set_num_threads(2)
    try:
        together = results(call, inputs, upstream)
    finally:
        torch.set_num_threads(1)
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 70, 5), (1, 2, 9000, 3)])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_moments(shape, strided, masked):
    x = torch.randn(shape) * 2 + 100
    if strided:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    present = torch.rand(shape[:-1]) > 0.4 if masked else None
    upstream = torch.randn(shape[:2])

    def plain(x):
        return element_variance(x, present)[..., 0, 0]

    truth = results(plain, [x.double()], upstream)
    attained = results(plain, [x], upstream)
    # a side of another length beside it, on either side
    other = torch.randn(*shape[:2], 5000, shape[3])
    for side in (0, 1):

        def pair(x, side=side):
            sides = ((x, present), (other, None))
            (query, *marks), (key, *more) = sides if side == 0 else sides[::-1]
            return lln_moments(query, key, *marks, *more)

        fast = results(lambda x, pair=pair, side=side: pair(x)[0][side], [x], upstream)
        for a, b, c in zip(fast, attained, truth, strict=True):
            assert_as_accurate_as(a, b, c)
        _, means, counts = pair(x)
        mean, count = means[side], counts[side]
        kept = torch.ones(shape[:-1]) if present is None else present.float()
        assert torch.equal(count, kept.sum(dim=-1) * shape[-1])
        sums = (x.double() * kept.unsqueeze(-1)).sum(dim=(-2, -1))
        assert_same(mean.float(), (sums / count.clamp_min(1)).float())


@pytest.mark.parametrize("module", [LLN, LLNDiag])
@both_directions
def test_layers_in_training(module, is_causal):
    layers = [module(), module()]
    for seed in range(3):
        torch.manual_seed(seed)
        query, key, value, _ = tensors(90, 90)
        mask = torch.rand(2, 1, 1, 90) > 0.2
        outputs = [
            layer(query * 2, key, value, mask=mask, is_causal=is_causal, backend=backend)
            for layer, backend in zip(layers, ("cpu", "reference"), strict=True)
        ]
        assert_same(*outputs)
    for a, b in zip(*(layer.state_dict().values() for layer in layers), strict=True):
        assert_same(a, b)


def test_what_the_kernels_cannot_run_is_refused_or_left_to_the_reference():
    *inputs, _ = tensors(5, 5)
    wide = [x.double() for x in inputs]
    assert lln_attention(*wide).dtype == torch.float64
    with pytest.raises(BackendUnavailableError, match="float64"):
        lln_attention(*wide, backend="cpu")
    with pytest.raises(BackendUnavailableError, match="block_size is 2000"):
        lln_diag_attention(*inputs, block_size=2000, backend="cpu")
    assert_same(
        lln_diag_attention(*inputs, block_size=2000),
        lln_diag_attention(*inputs, block_size=1000, backend="cpu"),
    )
    with pytest.raises(BackendUnavailableError, match="block_size is 2000"):
        LLNDiag(block_size=2000)(*inputs, backend="cpu")


@pytest.mark.parametrize("form", ["lln", "diag 10"])
@both_directions
def test_default_dtype_and_device_do_not_matter(form, is_causal):
    *inputs, upstream = tensors(70, 70)
    mask = torch.rand(2, 1, 1, 70) > 0.2

    def call(*inputs):
        return FORMS[form](*inputs, mask=mask, is_causal=is_causal, backend="cpu")

    expected = results(call, inputs, upstream)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            actual = results(call, inputs, upstream)
    finally:
        torch.set_default_dtype(torch.float32)
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_operators_run_in_a_forked_child():
    """Torch's own parallel operations would hang there; these inputs make every copy happen."""
    code = """
import os
import torch
from gibbsian.attention.lln.cpu.bidirectional_op import lln_bidirectional
from gibbsian.attention.lln.cpu.causal_op import lln_causal
from gibbsian.attention.lln.cpu.moments import lln_moments

torch.set_num_threads(2)
shape = (1, 2, 20000, 8)
query, key, value = (torch.randn(1, 2, 8, 20000).mT for _ in range(3))
upstream = torch.ones(()).expand(shape)
scales = torch.ones(1, 2), torch.ones(1, 2)
present = (torch.rand(1, 20000, 2) > 0.2).mT
torch.randn(1 << 20).exp()  # starts torch's threads


def step():
    inputs = (query, key, value, *scales, present)
    _, *state = lln_bidirectional(*inputs, 64, 0.5)
    torch.ops.gibbsian.lln_bidirectional_backward(upstream, *inputs, 64, 0.5, *state)
    lln_causal(*inputs, 0, 64, 0.5)
    torch.ops.gibbsian.lln_causal_backward(upstream, *inputs, 0, 64, 0.5)
    lln_moments(query, key, None, present)


with torch.no_grad():
    step()
    child = os.fork()
    if child == 0:
        step()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], timeout=300, check=True)


@pytest.mark.parametrize("block_size", [0, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_operators_keep_torch_s_rules(block_size, masked):
    query, key, value, _ = tensors(7, 7)
    present = torch.rand(2, 2, 7) > 0.3 if masked else None
    floats = [x.detach().requires_grad_() for x in (query, key, value, *torch.ones(2, 2, 2))]
    torch.library.opcheck(lln_bidirectional, (*floats, present, block_size, 0.5))
    torch.library.opcheck(lln_causal, (*floats, present, 0, block_size, 0.5))
    torch.library.opcheck(lln_moments, (floats[0], floats[1], None, present))


@pytest.mark.compile
@both_directions
@pytest.mark.parametrize("form", ["lln", "diag 64"])
def test_compiles_without_a_break(form, is_causal):
    *inputs, upstream = tensors(100, 100)

    def call(query, key, value):
        return FORMS[form](query, key, value, is_causal=is_causal)

    expected = results(call, inputs, upstream)
    actual = results(torch.compile(call, fullgraph=True), inputs, upstream)
    for a, b in zip(actual, expected, strict=True):
        assert_same(a, b)
