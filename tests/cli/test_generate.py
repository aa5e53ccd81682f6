"""`gibbsian generate` from the command line."""

import inspect
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from gibbsian.cli import main
from gibbsian.cli.generate import generate_command
from gibbsian.cli.generation_view import LiveView, whole_text
from gibbsian.sampling import read_jsonl
from gibbsian.sampling.policies import POLICIES
from tests.experiments.inspection import small_models as small

PAGE = Path(__file__).parents[2] / "docs" / "usage" / "generate.md"
WRITE = ("--prompt", "It is a truth", "--max-tokens", 8, "--seed", 3)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gibbsian", "generate", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return small.llama(tmp_path_factory.mktemp("models") / "llama", eos_token_id=None)


def test_help_stays_light():
    code = (
        "import sys; sys.argv = ['gibbsian', 'generate', '--help']\n"
        "from gibbsian.cli import main\n"
        "try: main()\n"
        "finally: assert not {'transformers', 'plotly', 'pyarrow'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--policy" in done.stdout


def test_a_pipe_gets_the_text_alone(monkeypatch, capsys, llama):
    assert run(monkeypatch, llama, *WRITE) == 0
    plain = capsys.readouterr()
    assert "\x1b" not in plain.out + plain.err
    assert "8 tokens in" in plain.err
    assert "policy quadrant, seed 3" in plain.err
    assert "--calibrate FILE makes this model's own" in plain.err
    assert run(monkeypatch, llama, *WRITE, "--json") == 0
    generation = json.loads(capsys.readouterr().out)
    assert generation["text"] + "\n" == plain.out


def test_files(monkeypatch, capsys, llama, tmp_path):
    page, trace = tmp_path / "page.html", tmp_path / "trace.jsonl"
    options = ("--json", "--html", page, "--trace", trace, "--policy", "edt:theta=0.1")
    assert run(monkeypatch, llama, *WRITE, *options) == 0
    generation = json.loads(capsys.readouterr().out)
    assert [r.token for r in read_jsonl(trace)] == [t["token"] for t in generation["tokens"]]
    assert "low S, high V" in page.read_text(encoding="utf-8")
    assert generation["policy"]["theta"] == 0.1


def test_only_a_calibration(monkeypatch, capsys, tmp_path):
    folder = small.llama(tmp_path / "llama")
    text = small.text(tmp_path / "text.txt", count=20)
    assert run(monkeypatch, folder, "--calibrate", text) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.replace("\n", "").endswith("gibbsian-thresholds.json")
    assert run(monkeypatch, folder, *WRITE) == 0
    assert "--calibrate" not in capsys.readouterr().err


def test_thresholds_of_another_model_are_told(monkeypatch, capsys, llama, tmp_path):
    text = small.text(tmp_path / "text.txt", count=20)
    levels = tmp_path / "levels.json"
    assert run(monkeypatch, llama, "--calibrate", text, "--thresholds", levels) == 0
    assert run(monkeypatch, llama, *WRITE, "--thresholds", levels) == 0
    assert "another model" not in capsys.readouterr().err
    content = json.loads(levels.read_text())
    levels.write_text(json.dumps(content | {"model": "org/other"}))
    assert run(monkeypatch, llama, *WRITE, "--thresholds", levels) == 0
    assert "thresholds of another model, org/other;" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prompt", ""), "`--prompt` must have some text"),
        ((), "`--prompt` must be given"),
        (("--prompt", "a", "--policy", "hot"), "must be one of adaptive, aes, .*, got 'hot'"),
        (("--prompt", "a", "--policy", "quadrant:entropy_low=9"), "0 <= low <= high"),
        (("--prompt", "a", "--policy", "quadrant:entropy_high=50"), r"at most 20 \(nats\)"),
        (("--prompt", "a", "--html", "/no/such/page.html"), "`--html` must be in a folder"),
        (("--prompt", "a", "--chat"), "needs a chat template"),
        (("--prompt", "a", "--thresholds", "none.json"), "must be a calibration file"),
        (("--prompt", "a", "--calibrate", "none.txt"), "none.txt"),
    ],
)
def test_bad_input_is_one_line(monkeypatch, capsys, llama, options, message):
    assert run(monkeypatch, llama, *options) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line


def test_a_missing_model(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, tmp_path / "none", *WRITE) == 2
    assert "does not exist" in capsys.readouterr().err


def test_ctrl_c_leaves_the_text_so_far(llama, tmp_path):
    page = tmp_path / "page.html"
    done = subprocess.Popen(
        [
            *(sys.executable, "-m", "gibbsian.cli", "generate", str(llama), "--prompt", "It is"),
            *("--max-tokens", "280", "--policy", "fixed", "--html", str(page)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # else what is read ahead is lost
    )
    first = done.stdout.read(1)
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=120)
    assert done.returncode == 130, err
    assert b"Traceback" not in err
    assert b"The text so far is above" in err
    assert 1 < len((first + out).decode()) < 280
    assert "interrupted" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("saved", [True, False])
def test_a_reader_that_goes_away_takes_no_file_along(llama, tmp_path, saved):
    trace = tmp_path / "trace.jsonl"
    command = [sys.executable, "-m", "gibbsian.cli", "generate", str(llama), "--prompt", "It is"]
    command += ["--max-tokens", "40", "--policy", "fixed", *(["--trace", trace] if saved else [])]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    with subprocess.Popen(command, **piped) as done:
        done.stdout.read(1)
        done.stdout.close()
        err = done.stderr.read()
    assert done.returncode == 0, err
    assert b"Traceback" not in err
    assert (b"40 tokens in" in err) == saved
    if saved:
        assert len(read_jsonl(trace)) == 40


TOKEN = {
    "text": " so",
    "entropy": 1.25,
    "varentropy": 0.5,
    "temperature": 0.7,
    "zeta": 0.0,
    "kept": 17,
    "action": "draw",
    "quadrant": "mist",
}


def shown(view, *, width, colour=None):
    file = io.StringIO()
    Console(file=file, width=width, height=12, force_terminal=True, color_system=colour).print(view)
    return file.getvalue()


def test_the_panel_has_the_newest_numbers():
    view = LiveView("quadrant")
    for i in range(200):
        view.on_token(TOKEN | {"text": f" word{i}", "entropy": i / 100})
    lines = shown(view, width=90).splitlines()
    assert len(lines) <= 24
    text = "\n".join(lines)
    for part in ("word199", "1.990", "0.500", "0.700", "17", "mist", "200"):
        assert part in text
    assert "word1 " not in text
    assert all(len(line) <= 90 for line in lines)


def test_a_narrow_terminal_has_the_text_alone():
    view = LiveView("quadrant")
    view.on_token(TOKEN)
    assert shown(view, width=40).strip() == "so"
    assert shown(LiveView("quadrant"), width=90)


def test_colours_and_control_characters():
    tokens = [TOKEN, TOKEN | {"text": "\x1b[2J", "quadrant": "flowing", "action": "insert"}]
    printed = shown(whole_text(tokens), width=90, colour="standard")
    assert "\x1b[31m so\x1b[0m" in printed
    assert "\x1b[2J" not in printed
    assert "\x1b[4m[2J" in printed


def test_options_and_policies_are_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    named = {"as_json": "--json"}
    for name in list(inspect.signature(generate_command).parameters)[1:]:
        assert f"`{named.get(name, '--' + name.replace('_', '-'))}" in page, name
    options = {"--" + n.replace("_", "-") for n in inspect.signature(generate_command).parameters}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert used <= options | {"--json", "--no-chat"}
    assert all(f"`{name}`" in page for name in POLICIES)
