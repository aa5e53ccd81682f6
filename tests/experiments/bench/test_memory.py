import sys
from dataclasses import replace

import pytest
import torch

from gibbsian.experiments.bench import all_cases
from gibbsian.experiments.bench.case import Operation
from gibbsian.experiments.bench.memory import Child, measure_here, measure_in_child
from tests.experiments.bench import small_cases as small

MEGABYTES = 10**6
linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak's mark is reset on Linux only")


def needs(extra):
    """A softmax that also fills `extra` bytes for a moment."""

    def prepare(tensors):
        def function(x):
            scratch = torch.ones(extra // 4)
            return x.softmax(dim=-1) + 0 * scratch[0]

        return small.operation(tensors, function)

    return small.contender("it", prepare)


def bytes_of(contender, **options):
    case = small.case(contender, ratios=(), quantity="bytes", **options)
    return measure_here(case, contender)


@linux
def test_scratch_and_results_are_seen():
    found = bytes_of(needs(200 * MEGABYTES))
    assert found["status"] == "ok"
    assert 190 * MEGABYTES < found["bytes"] < 230 * MEGABYTES

    def large(tensors):
        doubled = {"scores": tensors["scores"].repeat(1, 400_000)}
        return small.operation(doubled, lambda x: x + 1)

    contender = small.contender("it", large, reference=None)
    # 200 MB of output; the input, as large, is made before
    assert 190 * MEGABYTES < bytes_of(contender)["bytes"] < 240 * MEGABYTES


@linux
def test_an_earlier_peak_does_not_hide_anything():
    scratch = torch.ones(100_000_000)
    del scratch
    assert bytes_of(needs(100 * MEGABYTES))["bytes"] > 90 * MEGABYTES


@linux
def test_a_model_s_own_memory_counts():
    def prepare(tensors):
        kept = torch.ones(25_000_000)
        return Operation(call=lambda: (tensors["scores"].softmax(dim=-1) + 0 * kept[0],), leaves={})

    contender = small.contender("it", prepare)
    assert bytes_of(contender, mode="iteration")["bytes"] > 90 * MEGABYTES
    assert bytes_of(contender)["bytes"] < 90 * MEGABYTES


def test_a_wrong_result_has_no_bytes():
    contender = small.contender("it", small.wrong)
    found = bytes_of(contender)
    assert found["status"] == "WRONG"
    assert "bytes" not in found


def test_a_process_of_its_own_measures_a_case_of_the_registry():
    smallest = Child(case="lln-forward-1024", contender="LLN", threads=1)
    assert smallest.case in all_cases(quick=False)
    found = measure_in_child(smallest, timeout=120.0)
    assert found["status"] == "ok"
    assert found["check"]["error"] < found["check"]["bound"]
    # float32 features of 8 heads, 1024 positions, 64 numbers: 2 MB each
    assert 0 <= found["bytes"] < 100 * MEGABYTES


def test_a_process_that_fails_says_so():
    unknown = Child(case="lln-forward-1024", contender="nobody", threads=1)
    found = measure_in_child(unknown, timeout=120.0)
    assert found["status"] == "failed"
    assert found["detail"]
    late = measure_in_child(replace(unknown, contender="LLN"), timeout=0.01)
    assert late == {"status": "failed", "detail": "took more than 0 s"}
