import json
import subprocess
import sys

import pytest

from gibbsian import __version__
from gibbsian.cli import main
from tests.experiments.tiny import TEXT

SMALL = ["--layers", "1", "--width", "16", "--heads", "2", "--context", "16", "--batch", "4"]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gibbsian", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


def small(text, *more):
    return ["compare", "--text", text, "--steps", 3, "--device", "cpu", *SMALL, *more]


def test_version(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"gibbsian {__version__}\n"


def test_help_lists_the_command_and_stays_light():
    code = (
        "import sys; sys.argv = ['gibbsian', 'compare', '--help']\n"
        "from gibbsian.cli import main\n"
        "try: main()\n"
        "finally: assert not {'transformers', 'plotly', 'tokenizers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in ("--demo", "--resume", "--attention", "--text", "--out"):
        assert option in done.stdout


def test_compare_ends_with_the_table_and_the_page(monkeypatch, capsys, text, tmp_path):
    out = tmp_path / "a folder"
    arguments = small(text, "--attention", "softmax", "--attention", "aes", "--out", out)
    assert run(monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    assert "[2/2] aes-seed0" not in printed  # two seeds are the default
    assert "[4/4] aes-seed1" in printed
    assert "bits/byte" in printed
    lines = printed.splitlines()
    assert lines[-2] == f"Page: {out / 'report.html'}"
    assert lines[-1] == f"Results: {out / 'results.json'}"
    assert "softmax / aes: decoder of 1 layers" in (out / "report.html").read_text()
    results = json.loads((out / "results.json").read_text())
    # every row keeps its line in a pipe
    for row in results["summary"]:
        cells = (f" {row['attention']} ", f" {row['validation_bits_per_byte']:.3f} ± ")
        assert sum(all(cell in line for cell in cells) for line in lines[1:]) == 1


def test_resume_takes_the_settings_from_the_folder(monkeypatch, capsys, text, tmp_path):
    out = tmp_path / "out"
    arguments = small(text, "--attention", "softmax", "--seed", 3, "--out", out)
    assert run(monkeypatch, *arguments) == 0
    first = json.loads((out / "results.json").read_text())
    (out / "results.json").unlink()
    (out / "report.html").unlink()
    assert run(monkeypatch, "compare", "--resume", "--out", out) == 0
    assert json.loads((out / "results.json").read_text()) == first
    assert (out / "report.html").exists()
    capsys.readouterr()
    assert run(monkeypatch, "compare", "--resume", "--out", out, "--steps", 4) == 2
    assert "other settings (steps: 3 -> 4)" in capsys.readouterr().err


def test_a_new_folder_by_default(monkeypatch, text, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *small(text, "--attention", "softmax", "--seed", 0)) == 0
    assert len(list(tmp_path.glob("runs/compare-*/report.html"))) == 1


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys, text, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "my out"
    monkeypatch.setattr("gibbsian.experiments.run.train", interrupted)
    assert run(monkeypatch, *small(text, "--attention", "softmax", "--out", out)) == 130
    error = capsys.readouterr().err
    assert error == f"Interrupted. To go on: gibbsian compare --resume --out '{out}'\n"
    monkeypatch.undo()
    assert run(monkeypatch, "compare", "--resume", "--out", out) == 0
    assert (out / "report.html").exists()


def test_ctrl_c_at_once_does_not_offer_to_go_on(monkeypatch, capsys, text, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gibbsian.experiments.compare", interrupted)
    assert run(monkeypatch, *small(text, "--out", tmp_path / "out")) == 130
    assert capsys.readouterr().err == "Interrupted before anything was written.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "{tmp}/absent.txt"], "absent.txt: No such file or directory"),
        (["--text", "{tmp}/empty.txt"], "`text` must not be empty"),
        (["--text", "{tmp}/latin.txt"], "`text` must be UTF-8, got byte 0xe9"),
        (["--text", "{tmp}/short.txt"], "`text` is too short"),
        (["--attention", "sofmax"], "must be one of softmax, entmax, entmax-learned, aes"),
        (["--attention", "entmax:zeta=1.5"], "`zeta` must lie in [0, 1]"),
        (["--tokens", "words"], "`tokens` must be 'byte' or 'bpe:SIZE'"),
        (["--model", "gpt"], "`model` must be one of decoder, encoder"),
        (["--steps", "0"], "`steps` must be at least 1"),
        (["--seed", "-1"], "`seeds` must be in 0"),
        (["--resume"], "must hold a comparison to resume"),
        (["--out", "{tmp}/short.txt/out"], "`out` must be a folder that can be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path, arguments, message):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes(b"\xe9t\xe9" * 100)
    (tmp_path / "short.txt").write_text("Too short.")
    filled = [argument.format(tmp=tmp_path) for argument in arguments]
    if "--out" not in filled:
        filled += ["--out", str(tmp_path / "out")]
    assert run(monkeypatch, "compare", "--device", "cpu", *filled) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_resume_needs_a_folder(monkeypatch, capsys):
    assert run(monkeypatch, "compare", "--resume") == 2
    assert "Add --out FOLDER" in capsys.readouterr().err


def test_several_processes_need_a_folder(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(monkeypatch, "compare") == 2
    assert "`--out` must be given" in capsys.readouterr().err
