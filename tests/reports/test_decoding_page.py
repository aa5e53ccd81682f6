"""Tables of the study of decoding from invented results."""

import json
from pathlib import Path

import pytest

from gibbsian._errors import DataError
from gibbsian.reports.decoding_figure import draw_decoding
from gibbsian.reports.decoding_page import PAGE, page_with, tables

ROOT = Path(__file__).parents[2]
METHODS = ("greedy", "temperature", "top-p", "min-p", "edt", "quadrant")
ENTROPIC = ("edt", "quadrant")


def difference(value, p=0.5):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "p": p, "corrected": p}


def entry(score, scores, actions, name="fixed"):
    return {
        "policy": {"name": name},
        "score": score,
        "low": score - 0.1,
        "high": score + 0.1,
        "scores": scores,
        "realised_entropy": 0.7,
        "surprisal": 1.5,
        "same_trigrams": None,
        "actions": actions,
    }


def subject(scores, human=None):
    methods = {
        name: {
            mode: entry(
                0.25,
                scores,
                {"draw": 0.5, "branch": 0.4, "resample": 0.1}
                if name == "quadrant"
                else {"draw": 1.0},
                name if name in ENTROPIC else "fixed",
            )
            for mode in (("tuned",) if name == "greedy" else ("tuned", "matched"))
        }
        for name in METHODS
    }
    found = {
        "prompts": 5,
        "best_baseline": "greedy",
        "methods": methods,
        "levels": {
            "targets": [0.2, 0.5],
            "methods": {
                name: {"entropies": [0.21, 0.4], "reached": [True, name != "quadrant"]}
                for name in METHODS
                if name != "greedy"
            },
        },
        "tuning": {
            "greedy": {"qualities": [0.4]},
            **{
                name: {"entropies": [0.1, 0.5], "qualities": [0.4, 0.2]}
                for name in METHODS
                if name != "greedy"
            },
        },
    }
    return found | ({"human": human} if human else {})


@pytest.fixture
def results():
    text = dict.fromkeys(
        ("judge", "repeated_4_grams", "compressed", "distinct_2_grams", "loops"), 0.125
    )
    comparison = {
        "tuned": {name: difference(0.03, 0.0421) for name in ENTROPIC},
        "tuned_against_temperature": {name: difference(0.05, 0.2) for name in METHODS[2:]},
        "matched": {name: difference(-0.02) for name in METHODS[2:]},
        "mean": difference(0.01),
    }
    return {
        "model": "a model",
        "machine": {"processor": "a processor"},
        "versions": {"torch": "2"},
        "size": {"seeds": 3},
        "verdict": "undecided",
        "why": "Because.",
        "subjects": {
            "sums": subject({"accuracy": 0.25}),
            "text": subject(text, text | {"surprisal": 2.5}),
        },
        "comparisons": {"answers": comparison, "text": comparison},
    }


@pytest.fixture
def costs():
    ratios = {"fixed": {"ratio": 0.0123}, "edt": {"ratio": 0.02}, "quadrant": {"ratio": 0.057}}
    return {"decoding": {"of_a_decode_step": ratios}}


def cells(table, name):
    (line,) = (line for line in table.split("\n") if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_number_stands_with_its_method(results, costs):
    made = tables(results, costs)
    assert made["verdict"] == "**S4 undecided.** Because."
    row = cells(made["answers"], "edt")
    against = ["+5.0 (-5.0 to +15.0)", "0.200", "+3.0 (-7.0 to +13.0)", "0.042"]
    assert row == ["edt", "25.0", "15 to 35", "0.70", *against]
    assert cells(made["answers"], "greedy")[1] == "**25.0**"
    assert cells(made["answers"], "mean of the seven")[-2:] == ["+1.0 (-9.0 to +11.0)", ""]
    assert cells(made["answers-matched"], "min-p")[-3] == "-2.0 (-12.0 to +8.0)"
    assert "| greedy |" not in made["answers-matched"]
    row = cells(made["text"], "edt")
    assert row[1:3] == ["0.25", "0.125"]
    assert row[-2:] == ["+0.03 (-0.07 to +0.13)", "0.042"]
    assert cells(made["text"], "human")[2] == "0.125"
    assert cells(made["text"], "human")[8] == "2.50"
    for name in ("answers", "answers-matched", "text", "text-matched", "cost", "budget"):
        widths = {line.count("|") for line in made[name].split("\n") if line.startswith("|")}
        assert len(widths) == 1, name


def test_settings_that_missed_what_was_asked_for_are_marked(results, costs):
    made = tables(results, costs)["budget"]
    said = "sums -20 to +5 %; text -20 to +5 %; 10 of 20 settings within 10 %."
    assert made.split("\n")[0].endswith(said)
    assert "| method | sums 0.20 | sums 0.50 | text 0.20 | text 0.50 |" in made
    assert cells(made, "edt")[1:3] == ["0.21 / 0.10", "0.40* / 0.50"]
    assert cells(made, "quadrant")[1:3] == ["0.21 / 0.10", "0.40† / 0.50"]


def test_what_a_gap_in_entropy_is_worth_stands_beside_the_difference(results, costs):
    for subject, score in (("sums", 0.45), ("text", 0.05)):
        methods = results["subjects"][subject]["methods"]
        # the line: from 0.7 nats and 0.25 to 0.2 nats and the score
        methods["temperature"]["tuned"] |= {"realised_entropy": 0.2, "score": score}
        methods["edt"]["matched"]["realised_entropy"] = 0.6
    made = tables(results, costs)
    # 0.4 a nat fewer, over 0.1 nats
    assert cells(made["answers-matched"], "edt")[-1] == "+4.0"
    assert cells(made["text-matched"], "edt")[-1] == "+0.04"
    assert cells(made["text-matched"], "temperature")[-1] == ""
    assert made["matched"].startswith("Realised on the test split: sums 0.60 to 0.70 (temperature")
    # without a line nothing is said
    results["subjects"]["sums"]["methods"]["temperature"]["tuned"]["realised_entropy"] = 0.7
    assert cells(tables(results, costs)["answers-matched"], "edt")[-1] == ""


def test_forks_are_counted_in_rows_read(results, costs):
    made = tables(results, costs)["cost"]
    # 0.4 x 9 + 0.1 x 3
    assert cells(made, "quadrant") == ["quadrant", "5.7 %", "3.9 to 3.9"]
    assert cells(made, "temperature") == ["temperature", "1.2 %", "none"]


def test_tables_go_to_their_places_again_and_again():
    page = "words\n<!-- begin a -->\nold\n<!-- end a -->\nmore\n"
    once = page_with(page, {"a": r"| \x |"})
    assert once == "words\n<!-- begin a -->\n\n| \\x |\n\n<!-- end a -->\nmore\n"
    assert page_with(once, {"a": r"| \x |"}) == once
    with pytest.raises(DataError, match="begin b"):
        page_with(page, {"b": ""})


def test_the_picture_is_the_same_for_the_same_results(results, tmp_path):
    for name in ("one.svg", "two.svg"):
        draw_decoding(results, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    assert "accuracy, sums" in text
    assert "distance from human text" in text
    assert text.count("quadrant") >= 3


def test_the_committed_page_is_made_of_the_committed_results():
    found, price = (
        json.loads((ROOT / "results" / name).read_text())
        for name in ("decoding.json", "sampling-costs.json")
    )
    page = (ROOT / PAGE).read_text()
    assert page_with(page, tables(found, price)) == page
