import json
import shlex
import subprocess
import sys

import pytest

from gibbsian.cli import main
from gibbsian.experiments.bench import all_cases, registry
from tests.experiments.bench import small_cases as small


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gibbsian", "bench", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.fixture
def cases(monkeypatch):
    """Two small right cases in place of the registry; returns the list, to be changed."""
    right = small.contender("right", small.right)
    other = small.contender("other", small.right, package="other-package")
    found = [small.case(other, right, name=f"softmax-{i}") for i in range(2)]
    monkeypatch.setattr(registry, "_cases", lambda **_: iter(found))
    return found


def test_help_stays_light():
    code = (
        "import sys; sys.argv = ['gibbsian', 'bench', '--help']\n"
        "from gibbsian.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "loaded = {'transformers', 'matplotlib', 'numba', 'scipy'} & set(sys.modules)\n"
        "sys.exit(code or ', '.join(loaded) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--resume" in done.stdout
    for option in ("--list", "--quick", "--output", "--threads", "--repeats", "--budget"):
        assert option in done.stdout


def test_list_names_every_case_and_runs_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(all_cases(quick=False))
    assert sum(line.endswith("(only where named)") for line in lines) == 4
    assert not list(tmp_path.iterdir())
    assert run(monkeypatch, "--list", "lln-causal-*") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_table_on_stdout_progress_on_stderr_results_in_the_file(
    monkeypatch, capsys, cases, tmp_path
):
    output = tmp_path / "new" / "out.json"
    assert run(monkeypatch, "--quick", "--repeats", 2, "--threads", 1, "--output", output) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["[1/2] softmax-0", "[2/2] softmax-1"]
    results = json.loads(output.read_text())
    assert results["settings"] == {"repeats": 2, "budget": 60.0, "threads": 1, "quick": True}
    assert list(results["cases"]) == [case.name for case in cases]
    lines = captured.out.splitlines()
    assert "says nothing about speed" not in lines[0]
    assert lines[0].startswith("quick look")
    assert lines[-1] == f"Results: {output}"
    ratio = results["cases"]["softmax-1"]["ratios"][0]["ratio"]
    assert sum("softmax-1" in li and "other" in li and f"{ratio:.2f} [" in li for li in lines) == 1


def test_a_wrong_case_is_red_without_a_speed(monkeypatch, capsys, cases, tmp_path):
    cases[1] = small.case(
        small.contender("other", small.wrong), small.contender("right", small.right),
        name="softmax-1",
    )  # fmt: skip
    output = tmp_path / "out.json"
    assert run(monkeypatch, "--quick", "--repeats", 1, "--output", output) == 1
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if "softmax-1" in line and "other" in line)
    assert "WRONG" in line
    assert not any(unit in line for unit in (" ms", " µs", " s ", "["))
    assert (
        "seconds" not in json.loads(output.read_text())["cases"]["softmax-1"]["contenders"]["other"]
    )


def test_a_missing_package_is_named_and_is_no_failure(monkeypatch, capsys, cases, tmp_path):
    cases[0] = small.case(
        small.contender("right", small.right),
        small.contender("other", small.missing, package="other-package"),
        name="softmax-0", ratios=(),
    )  # fmt: skip
    assert run(monkeypatch, "--quick", "--repeats", 1, "--output", tmp_path / "out.json") == 0
    assert "not installed: pip install other-package" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on_and_that_works(monkeypatch, capsys, cases, tmp_path):
    def interrupted(_):
        raise KeyboardInterrupt

    output = tmp_path / "my out.json"
    good = cases[1]
    cases[1] = small.case(small.contender("right", interrupted), name="softmax-1", ratios=())
    assert run(monkeypatch, "softmax-*", "--quick", "--repeats", 1, "--output", output) == 130
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Interrupted. To go on: gibbsian bench 'softmax-*' --resume --output")
    first = json.loads(output.read_text())["cases"]
    assert list(first) == ["softmax-0"]
    cases[1] = good
    command = shlex.split(error.partition("To go on: ")[2])[2:]
    assert run(monkeypatch, *command) == 0
    assert json.loads(output.read_text())["cases"]["softmax-0"] == first["softmax-0"]


@pytest.mark.usefixtures("cases")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sofmax"], "`cases` must name cases or match some"),
        (["--repeats", "0"], "`repeats` must be at least 1, got 0"),
        (["--threads", "0"], "`threads` must be at least 1, got 0"),
        (["--budget", "-1"], "`budget` must be a number of seconds >= 0"),
        (["--resume"], "`--resume` needs the file to go on with"),
        (["--output", "{tmp}/file.json"], "Add --resume to go on with it"),
        (["--resume", "--output", "{tmp}/file.json"], "is not a file of `gibbsian bench`"),
        (["--output", "{tmp}/file.json/out.json"], "must be a file that can be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path, arguments, message):
    (tmp_path / "file.json").write_text("not JSON")
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    assert run(monkeypatch, "--quick", *filled) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.usefixtures("cases")
def test_a_new_file_by_default(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "--quick", "--repeats", 1) == 0
    assert len(list(tmp_path.glob("runs/bench-*.json"))) == 1
