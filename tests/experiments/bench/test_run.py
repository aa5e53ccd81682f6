import json

import pytest

from gibbsian._errors import ArgumentError, DataError
from gibbsian.experiments.bench.case import Operation, Ratio
from gibbsian.experiments.bench.run import BenchConfig, is_red, run_benchmark
from tests.experiments.bench import small_cases as small

CONFIG = BenchConfig(repeats=2, threads=1, quick=True)


def run(cases, output, *, config=CONFIG, resume=False, patterns=(), observer=None):
    return run_benchmark(
        config,
        patterns,
        output,
        observer=observer or small.Silent(),
        resume=resume,
        cases={case.name: case for case in cases},
    )


@pytest.mark.parametrize("prepare", [small.wrong, small.wrong_backward, small.not_a_number])
def test_a_wrong_result_has_no_speed_anywhere(prepare, tmp_path):
    case = small.case(
        small.contender("it", prepare), small.contender("right", small.right), mode="gradients"
    )
    results = run([case], tmp_path / "out.json")
    entry = results["cases"]["softmax-16"]
    assert entry["contenders"]["it"]["status"] == "WRONG"
    assert set(entry["contenders"]["it"]) == {"status", "note", "package", "check"}
    (ratio,) = entry["ratios"]
    assert (ratio["ratio"], ratio["reason"]) == (None, "it WRONG")
    assert entry["contenders"]["right"]["seconds"]["rounds"] == 2
    assert is_red(results)


def test_a_wrong_baseline_gives_no_ratio(tmp_path):
    case = small.case(
        small.contender("it", small.right),
        small.contender("base", small.wrong),
        ratios=(Ratio(of="it", to="base", bar=1.0),),
    )
    results = run([case], tmp_path / "out.json")
    (ratio,) = results["cases"]["softmax-16"]["ratios"]
    assert (ratio["ratio"], ratio["reason"], ratio["bar"]) == (None, "base WRONG", 1.0)
    assert is_red(results)


def test_what_cannot_run_says_why_and_the_others_run(tmp_path):
    case = small.case(
        small.contender("right", small.right),
        small.contender("absent", small.missing, package="a-package-that-nobody-has"),
        ratios=(Ratio(of="right", to="absent"),),
    )
    results = run([case], tmp_path / "out.json")
    found = results["cases"]["softmax-16"]["contenders"]
    assert found["absent"]["status"] == "not installed"
    assert found["absent"]["detail"] == "pip install a-package-that-nobody-has"
    assert found["right"]["status"] == "ok"
    assert not is_red(results)

    broken = small.case(small.contender("right", small.right), small.contender("b", small.broken))
    results = run([broken], tmp_path / "other.json")
    assert results["cases"]["softmax-16"]["contenders"]["b"]["detail"] == (
        "RuntimeError: no such kernel"
    )
    assert is_red(results)


def test_an_installed_package_that_does_not_import_is_told_apart(tmp_path):
    case = small.case(small.contender("right", small.right), small.contender(
        "numpy", small.missing, package="numpy"))  # fmt: skip
    found = run([case], tmp_path / "out.json")["cases"]["softmax-16"]["contenders"]["numpy"]
    assert found["status"] == "not usable"
    assert "numpy does not import" in found["detail"]


def test_facts_and_ratios_are_stored(tmp_path):
    case = small.case(
        small.contender("it", small.right),
        small.contender("right", small.right),
        facts=lambda tensors: {"rows": float(len(tensors["scores"]))},
    )
    entry = run([case], tmp_path / "out.json")["cases"]["softmax-16"]
    assert entry["facts"] == {"rows": 8.0}
    (ratio,) = entry["ratios"]
    assert (ratio["of"], ratio["to"]) == ("it", "right")
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]


class _StopsAt(small.Silent):
    def __init__(self, name):
        super().__init__()
        self._name = name

    def on_case(self, name, index, total):
        super().on_case(name, index, total)
        if name == self._name:
            raise KeyboardInterrupt


def _three():
    right = small.contender("right", small.right)
    return [small.case(right, name=f"softmax-{i}", ratios=()) for i in range(3)]


def test_an_interruption_keeps_what_is_finished_and_resume_runs_the_rest(tmp_path):
    output = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        run(_three(), output, observer=_StopsAt("softmax-1"))
    stored = json.loads(output.read_text())
    assert list(stored["cases"]) == ["softmax-0"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    results = run(_three(), output, resume=True)
    assert results["cases"]["softmax-0"] == stored["cases"]["softmax-0"]
    assert list(results["cases"]) == ["softmax-0", "softmax-1", "softmax-2"]


def test_resume_runs_a_red_case_again(tmp_path):
    output = tmp_path / "out.json"
    bad = small.case(small.contender("right", small.wrong), ratios=())
    assert is_red(run([bad], output))
    good = small.case(small.contender("right", small.right), ratios=())
    assert not is_red(run([good], output, resume=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "0" * 64}, "same sources of the package"),
        ({"versions": {"torch": "1.0"}}, "same versions, got .* in .*out.json"),
    ],
)
def test_resume_refuses_other_versions_and_sources(change, message, tmp_path):
    output = tmp_path / "out.json"
    stored = run(_three(), output)
    output.write_text(json.dumps(stored | change))
    with pytest.raises(ArgumentError, match=message) as error:
        run(_three(), output, resume=True)
    assert "\n" not in str(error.value)


def test_a_contender_that_fails_while_it_is_timed_ends_no_run(tmp_path):
    calls = []

    def later(tensors):
        def call():
            calls.append(None)
            if len(calls) == 3:
                raise FloatingPointError("the loss is not finite")
            return (tensors["scores"].softmax(dim=-1),)

        return Operation(call=call, leaves={})

    case = small.case(small.contender("it", later), small.contender("right", small.right))
    entry = run([case], tmp_path / "out.json")["cases"]["softmax-16"]
    assert entry["contenders"]["it"]["status"] == "failed"
    assert entry["contenders"]["it"]["detail"] == "FloatingPointError: the loss is not finite"
    assert entry["ratios"][0]["reason"] == "it failed"
    assert entry["contenders"]["right"]["seconds"]["rounds"] == 2
    assert len(calls) == 3


def test_every_declared_bar_is_stored(tmp_path):
    case = small.case(
        small.contender("it", small.right),
        small.contender("right", small.right),
        ratios=(Ratio(of="it", to="right", bar=2.0), Ratio(of="right", to="it")),
    )
    results = run([*_three(), case], tmp_path / "out.json", patterns=("softmax-0",))
    (declared,) = results["declared"]
    assert declared["case"] == "softmax-16"
    assert [ratio["bar"] for ratio in declared["ratios"]] == [2.0]


def test_patterns_choose(tmp_path):
    results = run(_three(), tmp_path / "out.json", patterns=("*-1", "softmax-2"))
    assert list(results["cases"]) == ["softmax-1", "softmax-2"]
    with pytest.raises(ArgumentError, match="got 'sofmax'"):
        run(_three(), tmp_path / "other.json", patterns=("sofmax",))
    assert not (tmp_path / "other.json").exists()


def test_an_existing_file_is_not_overwritten(tmp_path):
    output = tmp_path / "out.json"
    run(_three(), output)
    with pytest.raises(ArgumentError, match="Add --resume"):
        run(_three(), output)
    with pytest.raises(ArgumentError, match="same settings"):
        run(_three(), output, config=BenchConfig(repeats=3, threads=1, quick=True), resume=True)


@pytest.mark.parametrize("content", ["{", "[]", '"cases settings machine versions"', "{}"])
def test_a_file_of_something_else_is_an_error(content, tmp_path):
    output = tmp_path / "out.json"
    output.write_text(content)
    with pytest.raises(DataError, match=r"out\.json is not a file of `gibbsian bench`"):
        run(_three(), output, resume=True)


def test_settings_are_checked():
    for bad in ({"repeats": 0}, {"threads": 0}, {"budget": -1.0}, {"budget": float("nan")}):
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            BenchConfig(**bad)


def test_bytes_that_cannot_be_measured_say_why(tmp_path):
    case = small.case(small.contender("b", small.broken), ratios=(), quantity="bytes")
    found = run([case], tmp_path / "out.json")["cases"]["softmax-16"]["contenders"]["b"]
    assert (found["status"], found["detail"]) == ("failed", "RuntimeError: no such kernel")
