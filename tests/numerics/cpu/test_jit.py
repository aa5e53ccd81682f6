"""Compiled code on disk: never another source's, never another process's half."""

import errno
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from gibbsian.numerics.cpu import jit

ROOT = Path(__file__).parents[3]
SOURCE = """
from gibbsian.numerics.cpu.jit import kernel

FACTOR = 2


@kernel
def scaled(x):
    return x * FACTOR
"""


def load(folder, source=SOURCE):
    """The module as a process that starts now would find it."""
    path = folder / "kernels.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("kernels", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernels"] = module  # where pickle looks for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _forget_the_module():
    yield
    sys.modules.pop("kernels", None)


def files(folder):
    return sorted(path.name for path in (folder / "__pycache__").glob("*.nbc"))


def test_the_next_process_does_not_compile_again(tmp_path):
    assert load(tmp_path).scaled(3) == 6
    (name,) = files(tmp_path)
    again = load(tmp_path).scaled
    assert again(4) == 8
    assert sum(again.stats.cache_hits.values()) == 1
    assert files(tmp_path) == [name]
    assert again(1.5) == 3
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("length", [0, 10, 200])
def test_a_file_cut_short_is_compiled_anew(tmp_path, length):
    assert load(tmp_path).scaled(3) == 6
    (name,) = files(tmp_path)
    path = tmp_path / "__pycache__" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    assert load(tmp_path).scaled(3) == 6
    assert len(path.read_bytes()) == len(whole)


def test_a_changed_source_is_compiled_anew(tmp_path, monkeypatch):
    """Also where the bytes of the function itself are the same."""
    assert load(tmp_path).scaled(3) == 6
    monkeypatch.setattr(jit, "_SOURCES", "other sources")
    changed = load(tmp_path, SOURCE.replace("FACTOR = 2", "FACTOR = 5")).scaled
    assert changed(3) == 15
    assert not changed.stats.cache_hits
    (name,) = files(tmp_path)  # what the other sources left is gone
    assert "other sourc" in name


def test_others_may_read_the_cache(tmp_path):
    load(tmp_path).scaled(3)
    (name,) = files(tmp_path)
    assert (tmp_path / "__pycache__" / name).stat().st_mode & 0o777 == 0o644


def test_what_counts_as_the_sources(tmp_path, monkeypatch):
    for name in ("numerics/cpu/jit.py", "attention/rows.py", "experiments/run.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "numerics/cpu/jit.py"))
    first = jit._digest_of_sources()
    (tmp_path / "experiments/run.py").write_text("two")
    assert jit._digest_of_sources() == first
    (tmp_path / "attention/rows.py").write_text("two")
    assert jit._digest_of_sources() != first


def test_every_kernel_lies_where_sources_are_looked_at():
    package = Path(jit.__file__).parents[2]
    sources = package.rglob("*.py")
    compiled = [path for path in sources if "numerics.cpu.jit import" in path.read_text()]
    assert len(compiled) > 20
    for path in compiled:
        assert any(path.is_relative_to(package / layer) for layer in jit._LAYERS), path


def test_the_digest_is_that_of_the_package():
    assert jit._digest_of_sources() == jit._SOURCES
    assert hashlib.sha256().hexdigest() != jit._SOURCES, "no source was read"


def test_without_a_folder_to_write_to(tmp_path, monkeypatch):
    # files where folders would have to be, which stops even the administrator
    (tmp_path / "__pycache__").write_text("")
    (tmp_path / "no folder").write_text("")
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "no folder"))
    scaled = load(tmp_path).scaled
    assert scaled(3) == 6
    assert not scaled.stats.cache_hits
    assert load(tmp_path).scaled(3) == 6
    assert (tmp_path / "__pycache__").is_file()
    assert not list(tmp_path.rglob("*.nbc"))


@pytest.mark.parametrize("stage", ["open", "write"])
def test_on_a_full_disk(tmp_path, monkeypatch, stage):
    scaled = load(tmp_path).scaled

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if stage == "open":
        monkeypatch.setattr(jit.tempfile, "NamedTemporaryFile", full)
    else:
        monkeypatch.setattr(jit, "dumps", full)
    assert scaled(3) == 6
    assert not files(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))


def test_two_processes_that_compile_at_once(tmp_path):
    """Each compiles six forms, in opposite orders; whoever comes next finds all of them right."""
    load(tmp_path)
    code = """
import sys, time
from pathlib import Path
import numpy as np
from kernels import scaled
order, here, there = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
kinds = [np.int32, np.int64, np.float32, np.float64, np.uint8, np.complex64][::order]
here.touch()
for _ in range(3000):
    if there.exists():
        break
    time.sleep(0.01)
for kind in kinds:
    assert scaled(kind(21)) == 42, kind
"""
    signs = [tmp_path / "first", tmp_path / "second"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(order), *map(str, pair)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for order, pair in ((1, signs), (-1, signs[::-1]))
    ]
    for process in started:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    assert len(files(tmp_path)) == 6
    scaled = load(tmp_path).scaled
    for kind in (np.int32, np.int64, np.float32, np.float64, np.uint8, np.complex64):
        assert scaled(kind(21)) == 42
    assert sum(scaled.stats.cache_hits.values()) == 6
