import inspect
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

from gibbsian.cli.bench import bench_command
from gibbsian.experiments.bench import BenchConfig, all_cases
from gibbsian.experiments.bench.cases_attention import SPARSE_STD
from gibbsian.experiments.bench.timing import MIN_ROUNDS
from gibbsian.experiments.bench.verify import SAMPLED_ROWS
from gibbsian.reports.bench_page import combined

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "usage" / "bench.md").read_text()


def test_every_option_is_documented_with_its_default():
    rows = dict(re.findall(r"^\| `--(\w+)` \|[^|]*\| *([^|]*?) *\|$", PAGE, re.MULTILINE))
    names = {
        "list" if n == "list_cases" else n for n in inspect.signature(bench_command).parameters
    }
    assert set(rows) == names - {"cases"}
    defaults = BenchConfig()
    for name in ("repeats", "budget", "threads"):
        assert float(rows[name]) == getattr(defaults, name)


def test_every_case_is_in_the_table():
    table = PAGE.split("| name | question |")[1].split("\n\n")[0]
    patterns = re.findall(r"`([\w-]+\*)`", table)
    names = list(all_cases(quick=False))
    assert all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in names)
    assert all(any(fnmatchcase(name, pattern) for name in names) for pattern in patterns)


def test_numbers_in_the_page_are_those_of_the_code():
    assert f"standard deviation ({SPARSE_STD})" in PAGE
    assert f"{SAMPLED_ROWS} rows" in PAGE
    assert MIN_ROUNDS == 3
    assert "three are always made" in PAGE


def test_the_page_tells_the_command_of_the_results():
    file = "results/bench.json"
    results = combined({file: json.loads((ROOT / file).read_text())})
    assert f"    {results['commands'][0][1]}\n" in PAGE
