import json
import subprocess
import sys

import pytest

from gibbsian.cli import main
from gibbsian.experiments.claims import Claim, Measured, all_claims, registry
from tests.experiments.claims.estimates import near


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gibbsian", "claims", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


def claim(name, value=1.0, measure=None):
    return Claim(
        id=name,
        statement=f"statement of {name} [not markup]",
        source="a source",
        how="somehow",
        rule="above 0",
        paper="a shape",
        measure=measure or (lambda *_: Measured(numbers={"number": near(value)}, scale="none")),
        judge=lambda n: ("holds" if n["number"].value > 0 else "does not hold", "Because."),
    )


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(registry, "_CLAIMS", (claim("X1"), claim("X2", -1.0)))


def test_help_stays_light():
    code = (
        "import sys; sys.argv = ['gibbsian', 'claims', '--help']\n"
        "from gibbsian.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    for option in ("--list", "--full", "--output", "--resume", "--seed"):
        assert option in done.stdout


def test_list_names_every_claim_and_measures_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(all_claims())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("two")
def test_verdicts_on_stdout_progress_on_stderr_results_in_the_file(monkeypatch, capsys, tmp_path):
    output = tmp_path / "out.json"
    assert run(monkeypatch, "--output", output) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["[1/2] X1", "[2/2] X2"]
    assert captured.out.splitlines() == [
        "X1: HOLDS. statement of X1 [not markup]",
        "    Because.",
        "X2: DOES NOT HOLD. statement of X2 [not markup]",
        "    Because.",
        f"Results: {output}",
    ]
    assert list(json.loads(output.read_text())["claims"]) == ["X1", "X2"]


@pytest.mark.usefixtures("two")
def test_an_unknown_id_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "X1", "nonsense") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert "ids among X1, X2, got 'nonsense'" in line
    assert not list(tmp_path.iterdir())


def test_resume_needs_a_file(monkeypatch, capsys):
    assert run(monkeypatch, "--resume") == 2
    assert "--output FILE" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "_CLAIMS", (claim("X1"), claim("X2", measure=stop)))
    output = tmp_path / "out.json"
    assert run(monkeypatch, "--full", "--seed", 4, "--output", output) == 130
    assert f"gibbsian claims --resume --output {output} --full --seed=4" in capsys.readouterr().err
    assert list(json.loads(output.read_text())["claims"]) == ["X1"]
