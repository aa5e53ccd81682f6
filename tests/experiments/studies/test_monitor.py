"""The monitor's study runs, and its figures follow from its times."""

import json
import math
import sys

import pytest

from gibbsian.experiments.studies import monitor


def test_the_study_writes_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "_LAYERS", 1)
    monkeypatch.setattr(monitor, "_HIDDEN", 16)
    monkeypatch.setattr(monitor, "_VOCABULARY", 20)
    monkeypatch.setattr(monitor, "SHAPES", ((2, 8),))
    monkeypatch.setattr(sys, "argv", ["monitor", "--quick", "--out", str(tmp_path)])
    monitor.main()
    found = json.loads((tmp_path / "monitor.json").read_text())
    assert [case["model"] for case in found["cases"]] == ["gpt2", "bert"]
    for case in found["cases"]:
        for figures in (case["with_gap"], case["without_gap"]):
            share = figures["observation_seconds"] / figures["step_seconds"]
            assert figures["share_of_a_step"] == pytest.approx(share)
            assert figures["amortised"] == pytest.approx(share / 50)
            assert figures["least_every_for_3_percent"] == max(1, math.ceil(share / 0.03))


def test_end_to_end_is_in_turns(monkeypatch):
    monkeypatch.setattr(monitor, "_LAYERS", 1)
    monkeypatch.setattr(monitor, "_HIDDEN", 16)
    monkeypatch.setattr(monitor, "_VOCABULARY", 20)
    monkeypatch.setattr(monitor, "EVERY", 2)
    found = monitor.end_to_end(monitor.Training("bert", batch=2, length=8), rounds=3)
    assert len(found["overheads"]) == 3
    assert found["overhead"] == pytest.approx(sum(found["overheads"]) / 3)
    assert found["standard_error"] > 0
