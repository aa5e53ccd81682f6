import math
import re

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.experiments.bench import BenchConfig, all_cases, is_red, run_benchmark, select
from gibbsian.experiments.bench.cases_models import PAPER_GIGABYTES, PAPER_SECONDS
from tests.experiments.bench import small_cases as small

FULL = all_cases(quick=False)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    output = tmp_path_factory.mktemp("bench") / "out.json"
    config = BenchConfig(repeats=1, budget=0.0, threads=1, quick=True)
    return run_benchmark(config, (), output, observer=small.Silent())


def test_every_quick_case_runs_and_is_right(quick):
    assert set(quick["cases"]) == set(all_cases(quick=True))
    statuses = {
        (name, contender): (found["status"], found.get("detail"), found.get("check"))
        for name, case in quick["cases"].items()
        for contender, found in case["contenders"].items()
    }
    bad = {
        key: value for key, value in statuses.items()
        if value[0] not in ("ok", "not installed", "not usable")
    }  # fmt: skip
    assert not bad
    assert not is_red(quick)


def test_quick_and_full_ask_the_same_questions(quick):
    def questions(cases):
        return {re.sub(r"\d+ rows", "rows", group) for group in cases}

    full = questions(c.group for c in FULL.values() if not c.optional)
    assert questions(c["group"] for c in quick["cases"].values()) == full


def test_all_of_ours_have_a_truth_to_be_compared_with():
    for case in FULL.values():
        first = case.contenders[0]
        assert first.reference is not None or first.check is not None, case.name
        for ratio in case.ratios:
            below = case.contender(ratio.to)
            assert below.reference is not None or below.check is not None, (case.name, ratio.to)


def test_names_end_in_the_size_and_ratios_name_contenders():
    for name, case in FULL.items():
        assert name == case.name
        assert name.endswith(f"-{case.size}")
        names = [c.name for c in case.contenders]
        assert len(names) == len(set(names))
        assert {n for ratio in case.ratios for n in (ratio.of, ratio.to)} <= set(names)


def bars(pattern):
    return {
        case.size: (case.ratios[0].bar, case.ratios[0].aim)
        for case in FULL.values()
        if re.fullmatch(pattern, case.name)
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"entmax-(forward|gradients)-std[13]-\d+", {1024: (8, 3)}),
        (r"aes-sparse-forward(-causal)?-\d+", dict.fromkeys((2048, 4096, 8192), (1.0, 0.6))
         | dict.fromkeys((256, 512, 1024), (None, None))),
        (r"aes-dense-forward(-causal)?-\d+", dict.fromkeys((2048, 4096, 8192), (1.6, 1.2))),
        (r"aes-sparse-gradients-detached(-causal)?-\d+",
         dict.fromkeys((2048, 4096, 8192), (1.0, 0.6))),
        (r"aes-sparse-gradients-exact(-causal)?-\d+",
         dict.fromkeys((2048, 4096, 8192), (1.6, 1.2))),
        (r"aes-decoding-\d+", dict.fromkeys((32768, 131072), (0.6, 0.3))
         | dict.fromkeys((1024, 4096, 8192), (None, None))),
        (r"lln-(forward|gradients)-\d+",
         {1024: (0.2, 0.15), 4096: (0.05, 0.03), 8192: (0.03, 0.02)}),
        (r"lln-causal-gradients-\d+", {4096: (0.25, None), 16384: (0.08, None)}),
        (r"lln-diag-(forward|gradients)-\d+", dict.fromkeys((1024, 4096, 8192), (1.5, 1.15))),
        (r"statistics(-causal)?-\d+", dict.fromkeys((2048, 4096, 8192), (1.3, 1.1))),
    ],
)  # fmt: skip
def test_bars_and_aims(pattern, expected):
    assert bars(pattern) == expected


def test_memory_is_measured_at_32768_against_a_gigabyte():
    found = [case for case in FULL.values() if case.name.startswith("memory-")]
    assert len(found) == 12
    assert {(case.size, case.bar_bytes) for case in found} == {(32768, 10**9)}


def test_the_paper_s_ratios_are_those_of_its_seconds():
    softmax = {512: 0.95, 1024: 1.05, 2048: 2.4, 4096: 6.8}
    nystromformer = {512: 1.8, 1024: 1.9, 2048: 2.6, 4096: 4.7, 8192: 8.8, 16384: 16.7}
    lln = {512: 1.0, 1024: 1.05, 2048: 1.6, 4096: 3.2, 8192: 6.1, 16384: 11.8}
    for stated, above, below in (
        (PAPER_SECONDS["LLN", "softmax"], lln, softmax),
        (PAPER_SECONDS["Nystromformer", "LLN"], nystromformer, lln),
    ):
        assert set(stated) == set(above) & set(below)
        for length, ratio in stated.items():
            # the seconds have two digits
            assert math.isclose(ratio, above[length] / below[length], rel_tol=0.03)
    assert PAPER_GIGABYTES["LLN"][2048] == 5.7


@pytest.mark.parametrize("name", ["model-iteration-2048", "model-iteration-bfloat16-2048"])
def test_better_than_the_paper_is_below_it_over_softmax_and_above_it_for_nystromformer(name):
    case = FULL[name]
    found = {(r.of, r.to): (r.bar, r.higher_is_better) for r in case.ratios if r.bar is not None}
    assert found == {
        ("LLN", "softmax"): (0.67, False),
        ("LLN", "softmax, N x N"): (0.67, False),
        ("Nystromformer", "LLN"): (1.6, True),
    }


def test_the_longest_models_run_only_where_they_are_named():
    assert [c.name for c in FULL.values() if c.optional] == [
        "model-iteration-16384",
        "model-memory-16384",
        "model-iteration-bfloat16-16384",
        "model-memory-bfloat16-16384",
    ]


def test_softmax_that_writes_its_weights_out_is_left_out_where_they_do_not_fit():
    reasons = {
        name: case.contender("softmax, N x N").left_out
        for name, case in FULL.items()
        if name.startswith("model-")
    }
    assert {name for name, reason in reasons.items() if reason is None} == {
        f"model-{quantity}-{precision}{length}"
        for quantity in ("iteration", "memory")
        for precision in ("", "bfloat16-")
        for length in (512, 1024, 2048, 4096)
    }
    # 12 layers, 12 heads, 4 bytes
    assert "39 GB" in reasons["model-iteration-8192"]
    assert all(c.left_out is None for case in FULL.values() for c in case.contenders[:1])


@pytest.mark.parametrize("name", ["aes-sparse-forward-2048", "aes-sparse-forward-causal-2048"])
def test_sparse_cases_are_as_sparse_as_they_say(name):
    case = FULL[name]
    found = case.facts(case.fresh_tensors())
    assert 0.005 < found["mean support"] <= 0.02
    assert 0.1 < found["mean zeta"] < 1.0


def test_tensors_are_always_the_same_and_of_the_stated_spread():
    case = FULL["entmax-forward-std3-1024"]
    first, second = case.fresh_tensors(), case.fresh_tensors()
    assert torch.equal(first["scores"], second["scores"])
    assert abs(first["scores"].std() - 3) < 0.01
    assert first["scores"].shape == (2048, 1024)
    assert first["alpha"].min() >= 1.05
    assert first["alpha"].max() <= 2.0
    query, key = (FULL["aes-sparse-forward-2048"].fresh_tensors()[n] for n in ("query", "key"))
    assert query.shape == (1, 8, 2048, 64)
    scores = query[0, 0] @ key[0, 0].T / 8
    assert abs(scores.std() - 2.8) < 0.05


def test_gradients_are_wanted_only_where_they_are_timed():
    assert not FULL["lln-forward-1024"].fresh_tensors()["query"].requires_grad
    assert FULL["lln-gradients-1024"].fresh_tensors()["query"].requires_grad


def test_select():
    assert [c.name for c in select(FULL, ["lln-causal-*"])] == [
        "lln-causal-gradients-4096",
        "lln-causal-gradients-16384",
    ]
    assert not any(case.optional for case in select(FULL, []))
    assert [c.name for c in select(FULL, ["model-memory-16384"])] == ["model-memory-16384"]
    with pytest.raises(ArgumentError, match="got 'nothing'"):
        select(FULL, ["lln-*", "nothing"])
