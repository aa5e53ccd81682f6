"""`gibbsian inspect` from the command line: what it writes, and how it refuses."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from gibbsian.cli import main
from gibbsian.cli.inspection_table import _bar
from tests.experiments.inspection import small_models as small


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gibbsian", "inspect", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return small.llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return small.text(tmp_path_factory.mktemp("texts") / "text.txt")


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Runs the command, which must say one line and leave no file; returns the line."""

    def check(*arguments):
        output = tmp_path / "parent" / "out"
        assert run(monkeypatch, *arguments, "--output", output) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        *progress, line = printed.err.splitlines()
        assert line.startswith("error: ")
        assert not any("error" in earlier for earlier in progress)
        assert not list(tmp_path.glob("parent/*"))
        assert not list(tmp_path.glob("parent/.*"))
        return line

    return check


def test_help_stays_light():
    code = (
        "import sys; sys.argv = ['gibbsian', 'inspect', '--help']\n"
        "from gibbsian.cli import main\n"
        "try: main()\n"
        "finally: assert not {'transformers', 'plotly', 'pyarrow', 'PIL'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for option in ("--text", "--images", "--tokens", "--output", "--schedule", "--baseline"):
        assert option in done.stdout


def test_three_files_and_a_summary(monkeypatch, capsys, llama, text, tmp_path):
    output = tmp_path / "new" / "out"
    options = ("--text", text, "--tokens", 60, "--schedule", "constant:zeta=0.3")
    assert run(monkeypatch, llama, *options, "--output", output) == 0
    printed = capsys.readouterr()
    names = ["inspection.json", "report.html", "statistics.parquet"]
    assert sorted(path.name for path in output.iterdir()) == names
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    inspection = json.loads((output / "inspection.json").read_text())
    assert inspection["schedule"] == {"name": "constant", "zeta": 0.3}
    assert inspection["command"].startswith(f"gibbsian inspect {llama} --text {text} --tokens 60")
    assert "text.txt: 2 layers" in printed.err
    lines = printed.out.splitlines()
    assert lines[0] == f"{llama}: 2 layers, 4 heads; text.txt (60)"
    assert lines[1].split() == ["layer", "S/log", "n", "V", "sink", "tau", "gap", "zeta", "support"]
    mean = sum(inspection["maps"]["normalized_entropy"][1]) / 4
    assert lines[3].split()[:2] == ["1", f"{mean:.2f}"]
    assert any(line.startswith("Text: The text costs ") for line in lines)
    assert lines[-2:] == [f"Report: {output / 'report.html'}", f"Folder: {output}"]
    assert "<html" in (output / "report.html").read_text()


def test_the_command_in_the_file_makes_the_same_again(monkeypatch, llama, text, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = ("--text", text, "--tokens", 24, "--gap-positions", 8, "--entropy-threshold", 3)
    assert run(monkeypatch, llama, *arguments, "--output", first) == 0
    inspection = json.loads((first / "inspection.json").read_text())
    words = inspection["command"].split()[2:]
    assert run(monkeypatch, *words, "--output", second) == 0
    again = json.loads((second / "inspection.json").read_text())
    of_the_run = dict.fromkeys(("created", "seconds", "peak_memory_bytes"))
    assert inspection["peak_memory_bytes"] > inspection["seconds"] > 0
    assert again | of_the_run == inspection | of_the_run


def test_a_new_folder_by_default(monkeypatch, llama, text, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, llama, "--text", text, "--tokens", 8) == 0
    assert len(list(tmp_path.glob("runs/inspect-*/report.html"))) == 1


def test_against_a_baseline(monkeypatch, capsys, llama, text, tmp_path):
    options = (llama, "--text", text, "--tokens", 20)
    assert run(monkeypatch, *options, "--output", tmp_path / "a") == 0
    capsys.readouterr()
    baseline = ("--baseline", tmp_path / "a")
    assert run(monkeypatch, *options, *baseline, "--output", tmp_path / "b") == 0
    assert "Change: Against the baseline, no difference in S / log n.\n" in capsys.readouterr().out
    pages = [(tmp_path / name / "report.html").read_text() for name in "ab"]
    assert len(pages[1]) > len(pages[0])


def test_images(monkeypatch, capsys, tmp_path):
    model, image = small.vit(tmp_path / "vit"), small.image(tmp_path / "a.png")
    assert run(monkeypatch, model, "--images", image, "--output", tmp_path / "out") == 0
    assert "a.png (17)" in capsys.readouterr().out


def test_control_characters_of_a_text_do_not_reach_the_terminal(
    monkeypatch, capsys, llama, tmp_path
):
    path = tmp_path / "evil.txt"
    path.write_text("\x1b[31mred\x1b[0m " * 8)
    assert run(monkeypatch, llama, "--text", path, "--output", tmp_path / "out") == 0
    assert "\x1b" not in capsys.readouterr().out


def test_neither_or_both_inputs(refused, llama, text):
    assert "`--text` or `--images` must be given, got neither" in refused(llama)
    assert "got both" in refused(llama, "--text", text, "--images", text)


def test_a_text_longer_than_the_positions(refused, llama, tmp_path):
    long = small.text(tmp_path / "long.txt", 20)
    line = refused(llama, "--text", long)
    assert f"at most {small.POSITIONS} tokens" in line
    assert f"`--tokens {small.POSITIONS}`" in line
    assert f"at most {small.POSITIONS}" in refused(llama, "--text", long, "--tokens", 301)


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_an_empty_text(refused, llama, tmp_path, content):
    path = tmp_path / "empty.txt"
    path.write_text(content)
    assert "`text` must not be empty" in refused(llama, "--text", path)


def test_a_text_of_one_token(refused, llama, tmp_path):
    path = tmp_path / "one.txt"
    path.write_text("a")
    line = refused(llama, "--text", path)
    assert "at least 2 tokens, got 1 in one.txt. A row needs keys to choose from." in line


@pytest.mark.parametrize("make", [small.llama, small.bert])
def test_a_folder_without_a_tokenizer(refused, text, tmp_path, make):
    model = make(tmp_path / "model")
    (model / "tokenizer.json").unlink()
    settings = model / "tokenizer_config.json"
    # what names the class, but holds no vocabulary
    settings.write_text('{"tokenizer_class": "BertTokenizer"}')
    assert "no tokenizer in the folder" in refused(model, "--text", text)
    settings.unlink()
    line = refused(model, "--text", text)
    assert line.endswith("save it there with tokenizer.save_pretrained.")


def test_a_text_that_is_not_there(refused, llama, tmp_path):
    assert "No such file" in refused(llama, "--text", tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./none", "does not exist"),
        ("/none/at/all", "does not exist"),
        ("./none.gguf", "No such file"),
    ],
)
def test_a_model_that_is_not_there(refused, text, name, said):
    assert said in refused(name, "--text", text)


def test_a_folder_without_a_model(refused, text, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded: " in refused(tmp_path / "empty", "--text", text)


def test_damaged_weights(refused, text, tmp_path):
    model = small.llama(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded: " in refused(model, "--text", text)


@pytest.mark.parametrize(
    "content", [b"", b"GG", b"not a model", b"GGUF", b"GGUF\x03\0\0\0" + 16 * b"\x7f"]
)
def test_a_corrupt_gguf(refused, text, tmp_path, content):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    line = refused(path, "--text", text)
    assert "does not begin like one" in line or "the file is damaged or cut short" in line
    assert "ownload it again." in line


def test_gguf_files_cut_short_or_of_another_kind(refused, text, tmp_path):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_tensor("weight", np.zeros((64, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "damaged" not in refused(path, "--text", text)
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 60):
        path.write_bytes(whole[:length])
        line = refused(path, "--text", text)
        assert line.endswith("the file is damaged or cut short; download it again.")


def test_models_that_cannot_be_read(refused, text, tmp_path):
    assert "would keep its own" in refused(small.deberta(tmp_path / "deberta"), "--text", text)
    assert "an encoder and a decoder" in refused(small.t5(tmp_path / "t5"), "--text", text)


def test_a_model_for_the_other_input(refused, llama, text, tmp_path):
    image = small.image(tmp_path / "a.png")
    assert "must be a vision model" in refused(llama, "--images", image)
    assert "must be a language model" in refused(small.vit(tmp_path / "vit"), "--text", text)


def test_a_file_that_is_no_image(refused, text, tmp_path, monkeypatch):
    vit = small.vit(tmp_path / "vit")
    assert "images that Pillow reads" in refused(vit, "--images", text)
    whole = small.image(tmp_path / "a.png").read_bytes()
    damaged = tmp_path / "damaged.png"
    for content in (whole[:60], whole.replace(b"IDAT", b"I\0AT"), whole[:100] + b"!" + whole[101:]):
        damaged.write_bytes(content)
        assert "`--images` must be" in refused(vit, "--images", damaged)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    assert "images that Pillow reads" in refused(vit, "--images", tmp_path / "a.png")
    assert "No such file" in refused(vit, "--images", tmp_path / "none.png")


def test_settings_out_of_range(refused, llama, text):
    assert "`--tokens` must be >= 2" in refused(llama, "--text", text, "--tokens", 1)
    assert "must be one of constant" in refused(llama, "--text", text, "--schedule", "none")
    assert "`--gap-positions`" in refused(llama, "--text", text, "--gap-positions", 1)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("constant:zeta=2", "[0, 1]"),
        ("constant:zeta=abc", "'zeta', got 'abc'. Its options are zeta."),
        ("response:zeta=1", "response has no option 'zeta'; it has budget, zeta_max."),
        ("linear:bounds=1", "has no option 'bounds'; it has low, high, zeta_max, direction."),
        ("linear:low", "NAME:OPTION=VALUE"),
    ],
)
def test_schedules_that_do_not_exist(refused, llama, text, schedule, said):
    line = refused(llama, "--text", text, "--schedule", schedule)
    assert "`--schedule`" in line
    assert said in line


def test_a_full_disk(refused, monkeypatch, llama, text):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gibbsian.experiments.inspection.run.write_json", full)
    line = refused(llama, "--text", text, "--tokens", 8)
    assert "is full: No space left on device. Free some" in line


def test_no_inspection_as_baseline(refused, llama, text, tmp_path):
    (tmp_path / "other").mkdir()
    baseline = ("--text", text, "--baseline")
    assert "No such file" in refused(llama, *baseline, tmp_path / "other")
    for content in ("{", "[]", '{"schema": 99}'):
        (tmp_path / "other" / "inspection.json").write_text(content)
        assert "schema 1" in refused(llama, *baseline, tmp_path / "other")
    # before anything is read: there is no such model
    (tmp_path / "other" / "inspection.json").write_text('{"schema": 1}')
    assert "`model` of the baseline" in refused("./none", *baseline, tmp_path / "other")


def test_a_folder_that_cannot_be_written(monkeypatch, capsys, llama, text, tmp_path):
    (tmp_path / "file").write_text("")
    for output, said in (
        (tmp_path / "file" / "out", f"under {tmp_path / 'file'}, a file"),
        (tmp_path / "file" / "a" / "out", f"under {tmp_path / 'file'}, a file"),
        (tmp_path / "file", "new or empty"),
        (tmp_path, "new or empty"),
        (Path("/proc/out"), "can be written"),
    ):
        assert run(monkeypatch, llama, "--text", text, "--output", output) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert said in line
        assert "`--output` must be" in line
    assert (tmp_path / "file").read_text() == ""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "mounted")
    (tmp_path / "mounted").mkdir()
    for output in (".", tmp_path / "mounted"):
        assert run(monkeypatch, llama, "--text", text, "--output", output) == 2
        assert "working directory" in capsys.readouterr().err.splitlines()[-1]


def test_a_link_to_an_empty_folder(monkeypatch, llama, text, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    options = ("--text", text, "--tokens", 8, "--output", tmp_path / "link")
    assert run(monkeypatch, llama, *options) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "report.html").exists()


STRIKE = """
import os, signal, sys
from gibbsian.cli import inspect, main

moment, *sys.argv = sys.argv[1:]

def strike(bar, *step):
    if moment == ("layers" if step[1:] == (1, 2) else step[0]):
        os.kill(os.getpid(), signal.SIGINT)

class Imports:
    def find_spec(self, name, *rest):
        if moment == name:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Imports())
inspect.LayerBar.on_layer = inspect.LayerBar.on_step = strike
main()
"""


@pytest.mark.parametrize("moment", ["transformers", "layers", "report"])
def test_ctrl_c_leaves_nothing(llama, text, tmp_path, moment):
    command = ["gibbsian", "inspect", llama, "--text", text, "--output", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", STRIKE, moment, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "Interrupted. Nothing was written."
    assert not list(tmp_path.iterdir())


def test_ctrl_c_before_the_command(monkeypatch, capsys):
    def strike():
        raise KeyboardInterrupt

    # the package has a function of this name
    monkeypatch.setattr(sys.modules["gibbsian.cli.main"], "app", strike)
    assert run(monkeypatch) == 130
    assert capsys.readouterr().err == "Interrupted. Nothing was written.\n"


def test_bars():
    assert _bar(0.0) == "    "
    assert _bar(1.0) == _bar(7.0) == "████"
    assert _bar(0.5) == "██  "
    assert _bar(1 / 32) == "▏   "
