"""Every claim is measured at its quick size."""

import json
import math
from pathlib import Path

import pytest

from gibbsian._errors import DataError
from gibbsian.experiments.claims import Estimate, all_claims, correlators, heads
from gibbsian.experiments.claims.picture import Grid
from gibbsian.experiments.studies import pruning_times

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "results" / "claims.json"
LONG = ("L1", "L2", "L5", "S3")
HEAVY = ("A2", "G1", "L1", "L2", "S1", "S2")
NEED_WEIGHTS = ("A2", "S1", "S2")


@pytest.fixture
def no_weights(monkeypatch):
    def absent():
        raise DataError("Install them.")

    for name in heads.MODELS:
        monkeypatch.setitem(heads._FOLDERS, name, absent)


def check(found):
    assert found.rule
    assert found.paper
    assert found.how
    assert found.scale
    json.dumps(found.to_json())
    if not found.measurement:
        assert found.verdict == "undecided"
    for e in found.measurement.values():
        assert math.isfinite(e.value)
        assert e.low <= e.value <= e.high
        assert e.count >= 2
    names = [picture.name for picture in found.pictures]
    assert len(set(names)) == len(names)
    for picture in found.pictures:
        for panel in picture.panels:
            if isinstance(panel, Grid):
                for cells in (panel.values, panel.low, panel.high):
                    assert [len(row) for row in cells] == [len(panel.columns)] * len(panel.rows)
                continue
            for series in panel.series:
                assert len(series.x) == len(series.y) > 0
                assert len(series.low) == len(series.high)
                assert len(series.low) in (0, len(series.x))
                assert all(map(math.isfinite, (*series.x, *series.y)))


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in all_claims()],
)
def test_the_quick_size_without_weights(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no file of another study either
    found = all_claims()[name].run("quick", 0)
    check(found)
    # three sources are few: S3 may find that no benefit is sure
    if name != "S3":
        assert (found.verdict == "undecided") == (name in {*NEED_WEIGHTS, "S4"})
    without = {*NEED_WEIGHTS, "G1", "G2", "L1", "L2", "L3", "L4"}
    assert ("Install them" in found.missing) == (name in without)


@pytest.mark.real
@pytest.mark.parametrize("name", HEAVY)
def test_the_quick_size_with_weights(name):
    found = all_claims()[name].run("quick", 0)
    check(found)
    assert not found.missing
    assert found.verdict != "undecided"
    if name in NEED_WEIGHTS[1:]:
        assert "SmolLM2" in found.scale
    else:
        assert any("SmolLM2" in series.name or "SmolLM2" in picture.caption
                   for picture in found.pictures for panel in picture.panels
                   for series in panel.series)  # fmt: skip


def test_the_same_seed_gives_the_same_numbers():
    claim = all_claims()["E3"]
    assert claim.run("quick", 5).measurement == claim.run("quick", 5).measurement
    assert claim.run("quick", 5).measurement != claim.run("quick", 6).measurement


def test_the_pruning_study_is_read_where_it_is(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = all_claims()["A3"].run("quick", 0)
    assert "keys read, SmolLM2-135M" in found.why
    study = json.loads((ROOT / "results" / "pruning.json").read_text())
    (source,) = (
        s for s in study["sources"] if s["source"] == "SmolLM2-135M" and s["mode"] == "decode"
    )
    # the cascade reads least
    reads = source["filters"]["cascade"]["reads"]["against_keys"]
    visits = source["by_varentropy"]["cascade"]
    for name, exponent, interval in (
        ("n of the keys read", reads["exponent"], reads["interval"]),
        ("V of the keys visited", visits["exponent"], visits["exponent_interval"]),
    ):
        e = found.measurement[f"exponent in {name}, SmolLM2-135M, decoding"]
        assert (e.value, [e.low, e.high], e.count) == (exponent, interval, 90)


def test_times_are_read_as_their_study_writes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silent = all_claims()["A3"].run("quick", 0)
    assert "results/pruning-times.json" in silent.missing
    assert "In time" not in silent.why
    small = ["--most-keys", "512", "--most-queries", "512", "--seeds", "2", "--rounds", "1"]
    pruning_times.main(["--out", "results", *small])
    times = json.loads(Path("results", "pruning-times.json").read_text())
    found = all_claims()["A3"].run("quick", 0)
    assert found.verdict == silent.verdict
    assert "pruning-times" not in found.missing
    assert "up to 512 keys" in found.scale
    row, rows = "the time of decoding a row", "the time of prefill, n rows"
    expected = {
        f"exponent in n of {row}, softmax": times["decoding"]["softmax"],
        f"exponent in n of {row}, exact": times["decoding"]["exact"],
        f"exponent in n of {row}, index": times["decoding"]["index"],
        f"exponent in n of {rows}, softmax": times["prefill"]["softmax"],
        f"exponent in n of {rows}, exact": times["prefill"]["exact"],
        f"exponent in ζ of {rows}": times["prefill_at_fixed_zeta"],
        f"exponent in V of {rows}, ζ = 0.5": times["prefill_of_one_spread"],
    }
    assert {name for name in found.measurement if "time" in name} == set(expected)
    for name, fit in expected.items():
        e = found.measurement[name]
        assert (e.value, [e.low, e.high]) == (fit["exponent"], fit["interval"])
        assert (e.count, e.over) == (2, "seeds")
        assert f"^{e.value:.2f}" in found.why.partition("In time, ")[2]


@pytest.mark.parametrize("name", ["correlator", "connected_correlator"])
def test_the_oracle_of_the_correlators_is_not_the_correlators(name, monkeypatch):
    """E1 asks automatic derivatives: a wrong observable does not pass."""
    right = getattr(correlators, name)
    monkeypatch.setattr(correlators, name, lambda *a, **o: right(*a, **o) * (1 + 1e-6))
    assert all_claims()["E1"].run("quick", 0).verdict == "does not hold"


def test_the_committed_verdicts_follow_from_the_committed_numbers():
    results = json.loads(RESULTS.read_text())
    assert results["settings"]["size"] == "full"
    claims = all_claims()
    assert list(results["claims"]) == list(claims)
    for name, stored in results["claims"].items():
        numbers = {key: Estimate(**e) for key, e in stored["measurement"].items()}
        assert claims[name].judge(numbers) == (stored["verdict"], stored["why"])
        assert stored["rule"] == claims[name].rule
