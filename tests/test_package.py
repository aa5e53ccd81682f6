"""What is shipped: names, imports, version, and a wheel that works where the sources are not."""

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gibbsian

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gibbsian"

PUBLIC_MODULES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in PACKAGE.rglob("__init__.py")
    if not any(part.startswith("_") for part in path.parent.relative_to(ROOT).parts)
    # A package whose __init__ is a docstring only is a folder of modules: it exports nothing.
    and len(ast.parse(path.read_text()).body) > 1
)

# The library itself must not load them, whatever is installed.
NOT_NEEDED_BY_THE_LIBRARY = {
    "accelerate",
    "entmax",
    "gguf",
    "matplotlib",
    "pandas",
    "plotly",
    "rich",
    "safetensors",
    "scipy",
    "tensorboard",
    "tokenizers",
    "transformers",
    "typer",
}


def run_python(code: str, *, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that finds gibbsian under `path` before anywhere else."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_all_is_true(name: str) -> None:
    module = importlib.import_module(name)
    # Its order is ruff's rule RUF022, which `make check` holds.
    assert len(module.__all__) == len(set(module.__all__)), "a name stands twice in `__all__`"
    for exported in module.__all__:
        assert hasattr(module, exported), f"{name}.__all__ names {exported}, which is not there"


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_every_name_that_is_imported_to_be_shown_is_in_all(name: str) -> None:
    source = Path(importlib.import_module(name).__file__ or "").read_text()
    shown = {
        alias.asname
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert shown <= set(importlib.import_module(name).__all__)


def test_the_library_imports_neither_transformers_nor_figures(tmp_path: Path) -> None:
    code = "import sys, gibbsian; print(*{name.partition('.')[0] for name in sys.modules})"
    done = run_python(code, cwd=tmp_path, path=ROOT)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert "torch" in imported
    assert not imported & NOT_NEEDED_BY_THE_LIBRARY


def test_version_is_the_metadata_s() -> None:
    assert gibbsian.__version__ == importlib.metadata.version("gibbsian")
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", gibbsian.__version__)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_whole_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= names
    assert "gibbsian/py.typed" in names
    assert any(name.startswith("gibbsian/experiments/data/") for name in names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    strangers = {name for name in names if not re.match(r"gibbsian(-[^/]*\.dist-info)?/", name)}
    assert not strangers


def test_the_wheel_works_where_the_sources_are_not(wheel: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "site"
    # The dependencies are those of the running interpreter: torch need not be installed twice.
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--disable-pip-version-check", "--target", elsewhere, wheel],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    code = """
from importlib.resources import files
import torch, gibbsian
print(gibbsian.__file__)
weights = gibbsian.entmax(torch.tensor([0.0, 1.0, 5.0]), 1.0)
assert weights.tolist() == [0.0, 0.0, 1.0], weights
data = [file.name for file in files("gibbsian.experiments").joinpath("data").iterdir()]
assert any(name.endswith(".xz") for name in data), data
"""
    done = run_python(code, cwd=tmp_path, path=elsewhere)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(elsewhere)

    shown = subprocess.run(
        [sys.executable, elsewhere / "bin" / "gibbsian", "--help"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(elsewhere)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "compare" in shown.stdout
