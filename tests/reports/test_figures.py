import json
import re
import subprocess
import sys

import pytest

LAYER = {"zeta": 0.25, "support_fraction": 0.5}


@pytest.fixture
def results():
    runs = [
        {
            "attention": attention,
            "seed": seed,
            "validation_bits_per_byte": 2.0 + 0.1 * seed,
            "value_products": 500.0,
            "probes": [{"step": s, "bits_per_byte": 4.0 - s, "layers": [LAYER]} for s in (0, 1)],
            "schedules": [{"zeta_max": [0.2, 0.7]}] if attention == "aes-learned" else [],
        }
        for seed in (0, 1)
        for attention in ("softmax", "aes-learned")
    ]
    rows = [
        {"attention": a, "value_products": 500.0, "validation_bits_per_byte": 2.05}
        for a in ("softmax", "aes-learned")
    ]
    return {"summary": rows, "runs": runs}


def draw(results, folder):
    path = folder / "results.json"
    path.write_text(json.dumps(results))
    command = [sys.executable, "-m", "gibbsian.reports.figures", str(path), str(folder / "out")]
    subprocess.run(command, check=True)
    return {
        path.stem: " ".join(re.findall(r">([^<>\n]+)<", path.read_text()))
        for path in sorted((folder / "out").glob("*.svg"))
    }


def test_every_picture_names_what_it_shows(results, tmp_path):
    found = draw(results, tmp_path)
    assert list(found) == ["curves", "loss-and-products", "schedules"]
    for name in ("curves", "loss-and-products"):
        assert "softmax" in found[name]
        assert "aes-learned" in found[name]
    assert "learned zeta_max" in found["schedules"]
    assert "aes-learned, seed 1" in found["schedules"]


def test_no_picture_of_schedules_where_none_was_learned(results, tmp_path):
    results["runs"] = [run for run in results["runs"] if not run["schedules"]]
    results["summary"] = results["summary"][:1]
    assert list(draw(results, tmp_path)) == ["curves", "loss-and-products"]


def test_what_diverged_is_not_drawn(results, tmp_path):
    run = results["runs"][0]
    run |= {"validation_bits_per_byte": None, "value_products": None}
    run["probes"][1] |= {"bits_per_byte": None, "layers": [LAYER | {"zeta": None}]}
    results["summary"][0] |= {"validation_bits_per_byte": None, "value_products": None}
    assert list(draw(results, tmp_path)) == ["curves", "loss-and-products", "schedules"]
