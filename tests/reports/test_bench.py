import copy
import json
import re
from pathlib import Path

import pytest

from gibbsian._errors import DataError
from gibbsian.reports.bench import (
    BENCH_COLUMNS,
    bench_rows,
    bytes_text,
    markdown_table,
    seconds_text,
    short_rows,
    verdict,
)
from gibbsian.reports.bench_figures import draw_bench
from gibbsian.reports.bench_page import (
    BEGIN,
    END,
    FIGURE,
    PAGE,
    README,
    bench_page,
    combined,
    readme_table,
    replace_between,
    write_page,
)

ROOT = Path(__file__).parents[2]
RESULTS = tuple(
    f"results/bench{part}.json"
    for part in ("", "-models-bfloat16", "-models-earlier", "-models-16384")
)
TITLES = [column.title for column in BENCH_COLUMNS]


def timed(median, error=1e-6, against="float64, 32 rows"):
    return {
        "status": "ok",
        "note": "",
        "package": None,
        "check": {"error": error, "bound": 1e-4, "against": against},
        "first_call_s": 1.5,
        "seconds": {"median": median, "q1": 0.9 * median, "q3": 1.1 * median, "rounds": 9},
    }


def ratio(median, *, bar=1.0, aim=0.6, paper=None, higher=False, of="AES", to="SDPA"):
    return {
        "of": of, "to": to, "bar": bar, "aim": aim, "paper": paper, "higher_is_better": higher,
        "ratio": median, "low": median - 0.05, "high": median + 0.05, "rounds": 9,
    }  # fmt: skip


def case(group, size, contenders, ratios, **more):
    return {
        "group": group, "size": size, "mode": "forward", "quantity": "seconds",
        "bar_bytes": None, "facts": {}, "contenders": contenders, "ratios": ratios,
    } | more  # fmt: skip


@pytest.fixture
def results():
    wrong = {
        "status": "WRONG", "note": "a note", "package": None,
        "check": {"error": None, "bound": 1e-4, "against": "float64, 32 rows"},
    }  # fmt: skip
    absent = {
        "status": "not installed", "note": "", "package": "a-peer", "detail": "pip install a-peer",
    }  # fmt: skip
    memory = {k: v for k, v in timed(1.0).items() if k not in ("seconds", "first_call_s")}
    return {
        "settings": {"repeats": 9, "budget": 60.0, "threads": 2, "quick": False},
        "machine": {"processor": "A processor", "cores": 2, "system": "Linux x86_64"},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "declared": [],
        "source": "0123456789abcdef",
        "commands": [("results/bench.json", "gibbsian bench --repeats 9", 5, "0123456789abcdef")],
        "cases": {
            "aes-64": case(
                "AES forward", 64, {"AES": timed(0.004), "SDPA": timed(0.005)}, [ratio(0.8)],
                facts={"mean support": 0.0123},
            ),
            "aes-128": case(
                "AES forward",
                128,
                {
                    "AES": timed(0.02),
                    "SDPA": timed(0.016),
                    "peer": timed(0.01, 0.0, "finite and not zero only"),
                    "a-peer": absent,
                },
                [ratio(1.25), ratio(0.6, bar=None, aim=None, of="peer")],
            ),
            "bad-64": case("Bad", 64, {"bad": wrong}, []),
            "model-512": case(
                "Model", 512, {"Nys": timed(2.0), "LLN": timed(1.0)},
                [
                    ratio(1.9, bar=1.8, aim=None, paper=1.8, higher=True, of="Nys", to="LLN"),
                    ratio(1.1, bar=None, aim=None, of="Nys", to="softmax"),
                ],
            ),
            "memory-256": case(
                "Peak memory: AES", 256, {"AES": memory | {"bytes": 250_000_000}}, [],
                quantity="bytes", bar_bytes=10**9,
            ),
        },
    }  # fmt: skip


def lines(results):
    return [dict(zip(TITLES, row, strict=True)) for row in bench_rows(results)]


def line(results, name, contender, to=None):
    found = [
        li for li in lines(results)
        if (li["case"], li["contender"]) == (name, contender) and to in (None, li["to"])
    ]  # fmt: skip
    assert len(found) == 1
    return found[0]


def test_a_right_contender_shows_time_ratio_and_whether_bars_are_met(results):
    found = line(results, "aes-64", "AES")
    assert found["median"] == "4 ms"
    assert found["quartiles"] == "3.6 ms .. 4.4 ms"
    assert found["first call"] == "1.5 s"
    assert found["error"] == "1e-06"
    assert found["ratio"] == "0.80 [0.75, 0.85]"
    assert (found["bar"], found["aim"]) == ("≤ 1 ✓", "≤ 0.6 ✗")
    assert line(results, "aes-128", "AES")["bar"] == "≤ 1 ✗"
    for low, high, mark in ((1.0, 1.3, "✗"), (0.99, 1.3, "≈"), (0.9, 1.0, "✓")):
        found = {**ratio(0.5 * (low + high)), "low": low, "high": high}
        assert verdict(found, 1.0) == mark
    assert line(results, "aes-128", "peer")["bar"] == "-"
    assert line(results, "aes-128", "peer")["error"] == "no truth"


def test_a_bar_from_below_and_a_second_ratio(results):
    assert line(results, "model-512", "Nys", "LLN")["bar"] == "≥ 1.8 ✓"
    assert line(results, "model-512", "Nys", "LLN")["paper"] == "1.80"
    second = line(results, "model-512", "Nys", "softmax")
    assert second["median"] == ""
    assert second["ratio"].startswith("1.10")


def test_a_wrong_one_has_no_speed_and_a_missing_one_says_how_to_get_it(results):
    found = line(results, "bad-64", "bad")
    assert (found["median"], found["error"]) == ("WRONG", "NaN")
    assert {found[t] for t in ("quartiles", "first call", "ratio", "bar")} == {"-"}
    assert line(results, "aes-128", "a-peer")["median"] == "not installed: pip install a-peer"


def test_memory_has_its_own_bar(results):
    found = line(results, "memory-256", "AES")
    assert (found["median"], found["bar"]) == ("250 MB", "≤ 1.00 GB ✓")
    results["cases"]["memory-256"]["contenders"]["AES"]["bytes"] = 2 * 10**9
    found = line(results, "memory-256", "AES")
    assert (found["median"], found["bar"]) == ("2.00 GB", "≤ 1.00 GB ✗")


def test_the_short_table_has_a_line_a_question(results):
    assert short_rows(results) == [
        ["AES forward", "AES / SDPA", "64, 128", "0.80 ✓, 1.25 ✗", "≤ 1, ≤ 1"],
        ["Model", "Nys / LLN", "512", "1.90 ✓", "≥ 1.8"],
        ["Peak memory: AES", "AES", "256", "250 MB ✓", "≤ 1.00 GB"],
    ]
    results["cases"]["memory-256"]["contenders"]["AES"] = {"status": "failed", "detail": "killed"}
    assert short_rows(results)[-1][3] == "not measured: AES failed"


def test_a_bar_that_was_not_measured_has_a_line_all_the_same(results):
    missing = {"ratio": None, "reason": "AES failed", "of": "AES", "to": "SDPA"}
    known = results["cases"]["aes-64"]["ratios"][0]
    results["cases"]["aes-64"]["ratios"] = [
        {k: v for k, v in known.items() if k not in ("low", "high", "rounds")} | missing
    ]
    results["cases"]["aes-64"]["contenders"]["AES"] = {
        "status": "failed", "note": "", "package": None, "detail": "out of memory",
    }  # fmt: skip
    results["declared"] = [
        {
            "case": "lln-64", "group": "LLN", "size": 64, "contender": "LLN", "bar_bytes": None,
            "ratios": [{"of": "LLN", "to": "SDPA", "bar": 0.2, "higher_is_better": False}],
        },
        {
            "case": "memory-1", "group": "Memory", "size": 1, "contender": "LLN",
            "bar_bytes": 10**9, "ratios": [],
        },
        {"case": "aes-64"},
    ]  # fmt: skip
    rows = short_rows(results)
    assert rows[0][3] == "not measured: AES failed, 1.25 ✗"
    assert rows[-2:] == [
        ["LLN", "LLN / SDPA", "64", "not measured: not run", "≤ 0.2"],
        ["Memory", "LLN", "1", "not measured: LLN not run", "≤ 1.00 GB"],
    ]
    found = line(results, "aes-64", "AES")
    assert (found["ratio"], found["bar"]) == ("not measured: AES failed", "≤ 1")
    for text in (bench_page(results), readme_table(results)):
        assert "- `aes-64`, AES: failed: out of memory\n" in text
        assert "- `bad-64`, bad: WRONG\n" in text


@pytest.mark.parametrize(
    ("value", "text"), [(12.34, "12.3 s"), (0.01234, "12.3 ms"), (1.234e-5, "12.3 µs")]
)
def test_units_of_time(value, text):
    assert seconds_text(value) == text


def test_units_of_memory():
    assert bytes_text(1_500_000_000) == "1.50 GB"
    assert bytes_text(2_400_000) == "2 MB"


def test_markdown_tables_are_whole():
    table = markdown_table(("a", "b"), [["x", "1"]], left=1)
    assert table == "| a | b |\n| --- | ---: |\n| x | 1 |\n"


def test_the_page_holds_every_group_and_what_has_to_be_known(results):
    page = bench_page(results)
    for case_ in results["cases"].values():
        assert f"\n## {case_['group']}\n" in page
    assert "- `aes-64`: mean support 0.0123" in page
    assert "- bad: a note" in page
    assert "A processor, 2 cores" in page
    assert "| 64 | AES | 4 ms |" in page
    widths = [len(row.split("|")) for row in re.findall(r"^\|.*$", page, re.MULTILINE)]
    assert set(widths) == {7, 11}


def test_the_picture_has_a_panel_for_each_question_asked_at_two_sizes(results, tmp_path):
    draw_bench(results, tmp_path / "bench.svg")
    text = (tmp_path / "bench.svg").read_text()
    for name in ("AES forward", "AES", "SDPA", "peer", "seconds"):
        assert f">{name}<" in text
    assert ">Model<" not in text
    draw_bench(results, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == text
    only = {**results, "cases": {"bad-64": results["cases"]["bad-64"]}}
    draw_bench(only, tmp_path / "empty.svg")
    assert "no group was timed" in (tmp_path / "empty.svg").read_text()


def repository(tmp_path, readme=f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe end.\n"):
    (tmp_path / "docs" / "experiments").mkdir(parents=True)
    (tmp_path / README).write_text(readme)
    return tmp_path


def test_page_picture_and_readme_are_written(results, tmp_path):
    root = repository(tmp_path)
    del results["cases"]["bad-64"]
    write_page(results, root)
    assert (root / PAGE).read_text() == bench_page(results)
    assert (root / FIGURE).exists()
    readme = (root / README).read_text()
    assert readme.startswith("# Title\n\n")
    assert readme.endswith(f"{END}\n\nThe end.\n")
    assert readme_table(results) in readme
    assert "old" not in readme
    write_page(results, root)
    assert (root / README).read_text() == readme


def test_no_page_of_what_is_wrong_or_quick_or_has_no_place(results, tmp_path):
    root = repository(tmp_path, "# Title\n")
    with pytest.raises(DataError, match=r"wrong ones in \['bad-64'\]"):
        write_page(results, root)
    del results["cases"]["bad-64"]
    with pytest.raises(DataError, match="README must hold the lines"):
        write_page(results, root)
    quick = copy.deepcopy(results)
    quick["settings"]["quick"] = True
    with pytest.raises(DataError, match="got a quick one"):
        write_page(quick, root)
    assert not (root / PAGE).exists()


def test_readme_has_the_place_for_the_table():
    assert "a table\n" in replace_between((ROOT / README).read_text(), "a table\n")


def test_of_a_case_measured_twice_the_last_one_counts(results):
    later = copy.deepcopy(results)
    later["cases"] = {"aes-64": later["cases"]["aes-64"], "new-64": later["cases"]["bad-64"]}
    later["cases"]["aes-64"]["contenders"]["AES"]["seconds"]["median"] = 0.003
    later["settings"]["repeats"] = 15
    later["source"] = "fedcba9876543210"
    later["declared"] = [{"case": "new-64"}, {"case": "aes-64"}, {"case": "aes-128"}]
    both = combined({"results/a.json": results, "results/b.json": later})
    assert list(both["cases"])[:3] == ["new-64", "aes-64", "aes-128"]
    assert set(both["cases"]) == {*results["cases"], "new-64"}
    assert both["cases"]["aes-64"]["contenders"]["AES"]["seconds"]["median"] == 0.003
    assert both["declared"] == later["declared"]
    assert both["commands"][1] == (
        "results/b.json",
        "gibbsian bench aes-64 new-64 --repeats 15 --budget 60 --threads 2 --output results/b.json",
        2,
        "fedcba9876543210",
    )
    page = bench_page(both)
    assert "bench_page results/a.json results/b.json .`" in page
    assert "writes `results/a.json` (sources of the package: SHA-256 01234567)" in page
    assert "2 cases were measured in another run (sources fedcba98)" in page
    assert "(2 cases by the other commands on [the page]" in readme_table(both)
    for what in ("machine", "versions"):
        other = {**later, what: {**later[what], "torch_threads": 64}}
        with pytest.raises(DataError, match=f"got another {what} in b"):
            combined({"a": results, "b": other})


def test_what_is_committed_is_what_the_results_give():
    results = combined({file: json.loads((ROOT / file).read_text()) for file in RESULTS})
    assert (ROOT / PAGE).read_text() == bench_page(results)
    readme = (ROOT / README).read_text()
    assert replace_between(readme, readme_table(results)) == readme
