import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from gibbsian._errors import ArgumentError, DataError
from gibbsian.experiments.claims import Claim, Measured, all_claims, run_claims
from gibbsian.experiments.claims import run as run_module
from gibbsian.experiments.claims.parts import kept_part, report_progress
from tests.experiments.claims.estimates import near


class Observer:
    def __init__(self):
        self.seen = []

    def on_claim(self, name, index, total):
        self.seen.append((name, index, total))

    def on_part(self, done, total):
        self.seen.append((done, total))


def claim(name, *, value=1.0, calls=None, fails=False):
    def measure(size, seed):
        if calls is not None:
            calls.append((name, size, seed))
        if fails:
            raise KeyboardInterrupt
        return Measured(numbers={"number": near(value)}, scale="none")

    return Claim(
        id=name,
        statement="a statement",
        source="a source",
        how="somehow",
        rule="above 0",
        paper="a shape",
        measure=measure,
        judge=lambda n: ("holds" if n["number"].value > 0 else "does not hold", "Because."),
    )


def run(output, claims, ids=(), **options):
    return run_claims(ids, output, observer=Observer(), claims={c.id: c for c in claims}, **options)


def test_ids_are_those_of_their_claims():
    assert all(name == c.id for name, c in all_claims().items())
    assert len(all_claims()) >= 14


def test_the_verdict_is_the_rule_s(tmp_path):
    found = run(tmp_path / "out.json", [claim("X1"), claim("X2", value=-1.0)])
    assert {k: c["verdict"] for k, c in found["claims"].items()} == {
        "X1": "holds",
        "X2": "does not hold",
    }
    assert found["claims"]["X1"]["measurement"]["number"]["value"] == 1
    assert found["settings"] == {"size": "quick", "seed": 0}


def test_without_a_number_nothing_is_decided():
    silent = Claim(
        id="X",
        statement="",
        source="",
        how="",
        rule="",
        paper="",
        measure=lambda *_: Measured(numbers={}, scale="", missing="weights not installed"),
        judge=lambda _: pytest.fail("nothing to judge"),
    )
    found = silent.run("quick", 0)
    assert found.verdict == "undecided"
    assert "weights not installed" in found.why


def test_an_interrupted_run_keeps_what_is_settled_and_goes_on(tmp_path):
    output, calls = tmp_path / "new" / "out.json", []
    with pytest.raises(KeyboardInterrupt):
        run(output, [claim("X1", calls=calls), claim("X2", fails=True), claim("X3", calls=calls)])
    assert list(json.loads(output.read_text())["claims"]) == ["X1"]
    assert not [p for p in output.parent.iterdir() if p != output]
    three = [claim(name, calls=calls) for name in ("X1", "X2", "X3")]
    found = run(output, three, resume=True)
    assert calls == [("X1", "quick", 0), ("X2", "quick", 0), ("X3", "quick", 0)]
    assert list(found["claims"]) == ["X1", "X2", "X3"]


def test_one_claim_is_measured_again_and_the_others_stay(tmp_path):
    output, calls = tmp_path / "out.json", []
    run(output, [claim("X1"), claim("X2")])
    found = run(output, [claim("X1", calls=calls), claim("X2", calls=calls, value=-1.0)], ["x2"])
    assert calls == [("X2", "quick", 0)]
    assert [c["verdict"] for c in found["claims"].values()] == ["holds", "does not hold"]


def test_an_unknown_id_is_named_with_the_known_ones_and_nothing_is_written(tmp_path):
    with pytest.raises(ArgumentError, match=r"ids among X1, X2, got 'L99'") as caught:
        run(tmp_path / "out.json", [claim("X1"), claim("X2")], ["X1", "L99"])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_size_or_seed_is_refused(tmp_path):
    output = tmp_path / "out.json"
    run(output, [claim("X1")])
    for other in ({"size": "full"}, {"seed": 3}):
        with pytest.raises(ArgumentError, match="same size and seed"):
            run(output, [claim("X1")], **other)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": 9, "claims": {}}'])
def test_another_file_is_left_alone(tmp_path, content):
    output = tmp_path / "out.json"
    output.write_text(content)
    with pytest.raises(DataError, match="must be results of `gibbsian claims`"):
        run(output, [claim("X1")])
    assert output.read_text() == content


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="must be writable") as caught:
        run(tmp_path / "file" / "out.json", [claim("X1")])
    assert "\n" not in str(caught.value)


def test_a_number_that_is_not_finite_decides_nothing():
    found = claim("X", value=float("nan")).run("quick", 0)
    assert found.verdict == "undecided"
    assert found.why == "Not a finite number: number."


def test_parts_outlive_an_interrupt_and_go_with_the_claim(tmp_path):
    output, made = tmp_path / "out.json", []

    def make(name):
        made.append(name)
        return {"name": name, "pair": (1, 2.5)}

    def measure(*_):
        first = kept_part("first", lambda: make("first"))
        # a resumed run gets what a fresh one gets
        assert first == {"name": "first", "pair": [1, 2.5]}
        report_progress(1, 2)
        if interrupted:
            raise KeyboardInterrupt
        kept_part("second", lambda: make("second"))
        return Measured(numbers={"number": near(1.0)}, scale="none")

    broken = replace(claim("X1"), measure=measure)
    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        run(output, [broken])
    interrupted = False
    run(output, [broken], resume=True)
    assert made == ["first", "second"]
    assert list(tmp_path.iterdir()) == [output]
    # without --resume nothing is taken over
    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        run(output, [broken])
    interrupted = False
    run(output, [broken])
    assert made == ["first", "second", "first", "first", "second"]


def test_progress_within_a_claim_is_told():
    observer = Observer()

    def measure(*_):
        report_progress(3, 4)
        return Measured(numbers={"number": near(1.0)}, scale="none")

    with tempfile.TemporaryDirectory() as folder:
        run_claims(
            (),
            Path(folder, "out.json"),
            observer=observer,
            claims={"X": replace(claim("X"), measure=measure)},
        )
    assert observer.seen == [("X", 0, 1), (3, 4)]
    # outside of a run nobody listens and nothing is kept
    report_progress(1, 2)
    assert kept_part("alone", lambda: (1,)) == [1]


def test_each_claim_keeps_its_own_versions(tmp_path, monkeypatch):
    output, claims = tmp_path / "out.json", [claim("X1"), claim("X2")]
    for name, version in (("X1", "1"), ("X2", "2")):
        monkeypatch.setattr(run_module, "describe_versions", lambda version=version: {"a": version})
        found = run(output, claims, [name])
    assert found["versions"] == {"a": "2"}
    assert {k: c["versions"] for k, c in found["claims"].items()} == {
        "X1": {"a": "1"},
        "X2": {"a": "2"},
    }
