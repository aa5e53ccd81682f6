"""README's code runs as it stands. CONTRIBUTING.md states which blocks are run, and how."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"

_FENCE = re.compile(
    r"^(?P<mark><!-- test -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block that is to be run, and the line of README where it begins."""

    line: int
    language: str
    code: str


def runnable_blocks(text: str) -> list[Block]:
    """Return every python block without a title, and every bash block that is marked."""
    return [
        Block(
            line=text.count("\n", 0, found.start("code")),
            language=found["language"],
            code=found["code"],
        )
        for found in _FENCE.finditer(text)
        if found["language"] == "python" or (found["language"] == "bash" and found["mark"])
    ]


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block in `folder` with the running interpreter's commands in front of the PATH."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(README.parent)}
    command = (
        [sys.executable, "-W", "error", "-c", block.code]
        if block.language == "python"
        else ["bash", "-euo", "pipefail", "-c", block.code]
    )
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


BLOCKS = runnable_blocks(README.read_text())


@pytest.mark.parametrize(
    "block", BLOCKS, ids=[f"line-{block.line}-{block.language}" for block in BLOCKS]
)
def test_readme_block_runs(block: Block, tmp_path: Path) -> None:
    done = run(block, tmp_path)
    assert done.returncode == 0, f"README line {block.line}:\n{done.stdout}\n{done.stderr}"


def test_readme_names_the_two_commands() -> None:
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text


def test_blocks_are_found_by_the_convention() -> None:
    text = (
        "```python\na = 1\n```\n\n```bash\nfalse\n```\n\n<!-- test -->\n```bash\ntrue\n```\n"
        "\n    indented\n\n```text\nnot code\n```\n"
        '\n```python title="with a server"\nb = 2\n```\n'
    )
    assert [(block.language, block.code) for block in runnable_blocks(text)] == [
        ("python", "a = 1\n"),
        ("bash", "true\n"),
    ]


@pytest.mark.parametrize(
    "block",
    [
        Block(line=1, language="python", code="import warnings; warnings.warn('old')"),
        Block(line=1, language="bash", code="false | true\n"),
        Block(line=1, language="bash", code="echo $undefined_name\n"),
    ],
)
def test_a_block_that_fails_or_warns_is_noticed(block: Block, tmp_path: Path) -> None:
    assert run(block, tmp_path).returncode != 0
