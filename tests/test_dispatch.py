"""Which implementation runs a call."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from gibbsian import _dispatch
from gibbsian._dispatch import is_watched, runs_on_cpu_kernels
from gibbsian._errors import ArgumentError, BackendUnavailableError
from gibbsian.attention import aes_attention, attention_row_statistics, entmax_attention
from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.rows import MaterializedRows, rows_of
from gibbsian.normalizers import SmoothStep, entmax
from tests.attention.cases import inputs
from tests.tolerances import assert_same

ROOT = Path(__file__).parents[1]
NARROW = torch.zeros(2)

with_numba = pytest.mark.skipif(not _dispatch._HAS_NUMBA, reason="numba is not installed")


def rows(*tensors, backend="auto", **options):
    return rows_of(checked_inputs(*tensors, **options), backend)


def by_reference(*tensors, **options):
    return isinstance(rows(*tensors, **options), MaterializedRows)


@with_numba
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["auto", "cpu"])
def test_what_the_kernels_run(dtype, backend):
    assert runs_on_cpu_kernels(backend, torch.zeros(2, dtype=dtype), NARROW)
    assert not by_reference(*inputs(dtype=dtype), backend=backend)


def test_the_reference_runs_anything_and_asks_nothing():
    tensors = (torch.zeros(2, dtype=torch.float64), torch.zeros(2, device="meta"))
    assert not runs_on_cpu_kernels("reference", *tensors, obstacles=["never"])
    assert by_reference(*inputs(), backend="reference")


@pytest.mark.parametrize("backend", ["gpu", "CPU", "", None])
def test_an_unknown_backend_is_refused(backend):
    decided = getattr(runs_on_cpu_kernels, "__wrapped__", runs_on_cpu_kernels)
    with pytest.raises(ArgumentError, match="`backend` must be 'auto', 'reference' or 'cpu', got"):
        decided(backend, NARROW)


def test_every_reason_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(_dispatch, "_HAS_NUMBA", False)
    tensors = (
        NARROW,
        torch.zeros(2, dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64, device="meta"),
        torch.zeros(2, dtype=torch.int64),
    )

    def refused(x):
        with pytest.raises(BackendUnavailableError) as error:
            runs_on_cpu_kernels("cpu", *tensors, obstacles=["the moon is full", "it rains"])
        message = str(error.value)
        assert "\n" not in message
        for reason in (
            "numba is not installed (pip install 'gibbsian[cpu]')",
            "a tensor is on meta",
            "a tensor is torch.float64, torch.int64 (the kernels compute in float32)",
            "a torch.func transform is active",
            "forward-mode differentiation is active",
            "the moon is full",
            "it rains",
            "Use backend='auto'",
        ):
            assert message.count(reason) == 1, reason
        return x

    torch.func.jvp(refused, (NARROW,), (NARROW,))


REFUSED = {
    "float64": ({"dtype": torch.float64}, {}, "a tensor is torch.float64"),
    "dropout": ({}, {"dropout_p": 0.1}, "dropout_p is above 0"),
    "no queries": ({"queries": 0}, {}, "there is no query, no key or no channel"),
    "no keys": ({"keys": 0}, {}, "there is no query, no key or no channel"),
    "no channels": ({"value_dim": 0}, {}, "there is no query, no key or no channel"),
}


@with_numba
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_kernels_cannot_run_is_refused_or_left_to_the_reference(name):
    shape, options, reason = REFUSED[name]
    tensors = inputs(**shape)
    assert by_reference(*tensors, **options)
    for call in (
        lambda: entmax_attention(*tensors, zeta=0.5, backend="cpu", **options),
        lambda: aes_attention(*tensors, schedule=SmoothStep(), backend="cpu", **options),
        lambda: rows(*tensors, backend="cpu", **options),
    ):
        with pytest.raises(BackendUnavailableError, match=reason):
            call()


@with_numba
def test_float64_rows_are_refused_or_left_to_the_reference():
    scores = torch.randn(2, 5, dtype=torch.float64)
    assert entmax(scores, 0.5).dtype == torch.float64
    with pytest.raises(BackendUnavailableError, match=r"torch\.float64"):
        entmax(scores, 0.5, backend="cpu")
    with pytest.raises(BackendUnavailableError, match=r"torch\.float64"):
        attention_row_statistics(*inputs(dtype=torch.float64)[:2], backend="cpu")


@with_numba
def test_transforms_and_forward_mode_go_to_the_reference():
    tensors = inputs()
    seen = {}

    def look(name):
        def call(x):
            seen[name] = by_reference(*tensors)
            with pytest.raises(BackendUnavailableError, match=r"torch\.func transform is active"):
                rows(*tensors, backend="cpu")
            return x.sum()

        return call

    torch.func.grad(look("grad"))(NARROW)
    torch.func.vmap(look("vmap"))(torch.zeros(2, 2))
    assert seen == {"grad": True, "vmap": True}
    with forward_ad.dual_level():
        assert by_reference(*tensors)
        with pytest.raises(BackendUnavailableError, match="forward-mode differentiation is active"):
            rows(*tensors, backend="cpu")
    assert not by_reference(*tensors)


@with_numba
def test_transforms_of_entmax_and_attention_run():
    scores, direction = torch.randn(2, 3, 7), torch.randn(2, 3, 7)
    mapped = torch.func.vmap(lambda x: entmax(x, 0.5))(scores)
    assert torch.equal(mapped, entmax(scores, 0.5, backend="reference"))
    _, tangent = torch.func.jvp(lambda x: entmax(x, 0.5), (scores,), (direction,))
    _, expected = torch.func.jvp(
        lambda x: entmax(x, 0.5, backend="reference"), (scores,), (direction,)
    )
    assert torch.equal(tangent, expected)
    query, key, value = inputs()

    def mixed(query, backend):
        return aes_attention(query, key, value, schedule=SmoothStep(), backend=backend).sum()

    assert torch.equal(
        torch.func.grad(lambda q: mixed(q, "auto"))(query),
        torch.func.grad(lambda q: mixed(q, "reference"))(query),
    )


def test_without_numba_auto_is_the_reference(monkeypatch):
    monkeypatch.setattr(_dispatch, "_HAS_NUMBA", False)
    tensors = inputs()
    assert by_reference(*tensors)
    assert torch.equal(
        entmax_attention(*tensors, zeta=0.5),
        entmax_attention(*tensors, zeta=0.5, backend="reference"),
    )
    for call in (
        lambda: entmax_attention(*tensors, zeta=0.5, backend="cpu"),
        lambda: entmax(NARROW, 0.5, backend="cpu"),
    ):
        with pytest.raises(BackendUnavailableError, match="numba is not installed"):
            call()


def test_everything_runs_where_numba_cannot_be_imported():
    code = """
import sys
# an import of either raises ImportError from here on
sys.modules["numba"] = sys.modules["llvmlite"] = None
import torch
import gibbsian
from gibbsian._errors import BackendUnavailableError
from gibbsian.attention import aes_attention
from gibbsian.normalizers import SmoothStep

tensors = [t.requires_grad_() for t in torch.randn(3, 1, 2, 9, 4)]


def results(backend):
    output, statistics = aes_attention(
        *tensors, schedule=SmoothStep(), is_causal=True, return_statistics=True, backend=backend
    )
    return [output, statistics.stack(), *torch.autograd.grad(output.sum(), tensors)]


for one, other in zip(results("auto"), results("reference")):
    assert torch.equal(one, other)
assert torch.equal(
    gibbsian.entmax(tensors[0], 0.5), gibbsian.entmax(tensors[0], 0.5, backend="reference")
)
try:
    aes_attention(*tensors, schedule=SmoothStep(), backend="cpu")
except BackendUnavailableError as error:
    assert "gibbsian[cpu]" in str(error)
else:
    raise AssertionError("backend='cpu' ran without numba")
assert not [name for name in sys.modules if name.endswith(".cpu") and name.startswith("gibbsian")]
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@with_numba
def test_auto_and_cpu_are_the_same_kernels():
    tensors = inputs(queries=70, keys=70)
    outputs = [
        aes_attention(*tensors, schedule=SmoothStep(), backend=backend)
        for backend in ("auto", "cpu", "reference")
    ]
    assert torch.equal(outputs[0], outputs[1])
    # rounded in another order
    assert not torch.equal(outputs[0], outputs[2])
    assert_same(outputs[0], outputs[2])


def test_numba_is_not_imported_before_it_is_used():
    code = "import sys, gibbsian.attention, gibbsian.normalizers; assert 'numba' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_torch_has_to_see():
    plain, tracked = torch.ones(2), torch.ones(2, requires_grad=True)
    assert not is_watched(plain, plain)
    assert is_watched(plain, tracked)
    assert is_watched(torch.nn.Parameter(plain))
    with torch.no_grad():
        assert not is_watched(plain, tracked)
    with FlopCounterMode(display=False):
        assert is_watched(plain)
