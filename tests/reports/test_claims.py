import json
from pathlib import Path

import pytest

from gibbsian._errors import DataError
from gibbsian.reports.claims import short
from gibbsian.reports.claims_page import PAGE, claims_page, write_page

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "claims.json"


def series(name, style="line", low=(), high=()):
    return {
        "name": name,
        "x": [1.0, 2.0],
        "y": [0.1, 0.2],
        "style": style,
        "low": list(low),
        "high": list(high),
    }


def results(**changes):
    panel = {
        "title": "a title",
        "x_label": "x",
        "y_label": "y",
        "x_scale": "log",
        "y_scale": "linear",
        "series": [
            series("first", low=(0.0, 0.1), high=(0.2, 0.3)),
            series("second", "points", low=(0.0, 0.1), high=(0.2, 0.3)),
            series("third", "dashed"),
            series("fourth", "steps"),
        ],
    }
    grid = {
        "title": "a grid",
        "x_label": "second",
        "y_label": "first",
        "rows": ["top", "low"],
        "columns": ["left", "middle", "right"],
        "values": [[1.0, 0.126, -0.004], [0.3, 0.4, -1.9]],
        "low": [[1.0, 0.1, 0.0], [0.2, 0.3, -2.0]],
        "high": [[1.0, 0.2, 0.1], [0.4, 0.5, -1.0]],
    }
    claim = {
        "id": "X1",
        "claim": "a|b <c> *d* e_f_g",
        "source": "a source",
        "how": "somehow",
        "rule": "above 0",
        "paper": "a shape",
        "scale": "small",
        "missing": "the weights",
        "measurement": {
            "|x|": {
                "value": 0.25,
                "low": 0.2,
                "high": 0.3,
                "count": 5,
                "over": "seeds",
                "kind": "mean",
            },
            "redundancy": {
                "value": 0.5,
                "low": 0.4,
                "high": 0.6,
                "count": 9,
                "over": "windows",
                "kind": "resampled",
            },
        },
        "verdict": "does not hold",
        "why": "Because of 0.25 [0.2, 0.3].",
        "pictures": [
            {"name": "one", "caption": "What is seen.", "panels": [panel, panel]},
            {"name": "two", "caption": "A matrix.", "panels": [grid, grid]},
        ],
        "seconds": 61.0,
    }
    return {
        "command": "gibbsian claims --full --seed 0",
        "settings": {"size": "full", "seed": 0},
        "machine": {"processor": "a processor", "cores": 2},
        "versions": {"python": "3"},
        "claims": {"X1": claim},
    } | changes


def test_the_page_says_claim_numbers_verdict_and_what_was_not_measured():
    page = claims_page(results())
    assert "1 'does not hold'" in page
    assert "| [X1](#claim-x1) | a\\|b &lt;c&gt; \\*d\\* e\\_f\\_g | a source |" in page
    assert "| Because of 0.25 &#91;0.2, 0.3&#93;. | **does not hold** |" in page
    assert "| \\|x\\| | 0.25 | 0.2 to 0.3 | mean over 5 seeds |" in page
    assert "| redundancy | 0.5 | 0.4 to 0.6 | resampled over 9 windows |" in page
    assert "*Not measured.* the weights." in page
    assert "{ #claim-x1 }" in page
    assert "(figures/claims-x1-one.svg)" in page


def test_files_are_written_and_the_same_each_time(tmp_path):
    page, figure, matrix = write_page(results(), tmp_path)
    assert page == tmp_path / PAGE
    first = figure.read_text()
    assert figure.name == "claims-x1-one.svg"
    for words in ("first", "fourth", "a title"):
        assert words in first
    shown = matrix.read_text()
    for words in ("a grid", "middle", "top", ">13<", ">0<", ">-190<"):
        assert words in shown
    write_page(results(), tmp_path)
    assert figure.read_text() == first
    assert matrix.read_text() == shown


def test_words_stand_on_the_axis_where_a_panel_has_them(tmp_path):
    found = results()
    found["claims"]["X1"]["pictures"][0]["panels"][0]["x_ticks"] = ["alpha", "omega"]
    _, figure, _ = write_page(found, tmp_path)
    assert "omega" in figure.read_text()


def test_a_quick_run_makes_no_page(tmp_path):
    with pytest.raises(DataError, match="gibbsian claims --full"):
        write_page(results(settings={"size": "quick", "seed": 0}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_numbers_are_short():
    assert [short(v) for v in (0.0, 1.23456, 1e-9, 123456.0, None)] == [
        "0",
        "1.235",
        "1.0e-09",
        "1.2e+05",
        "not finite",
    ]


def test_the_committed_page_is_made_of_the_committed_results():
    assert (ROOT / PAGE).read_text() == claims_page(json.loads(RESULTS.read_text()))
