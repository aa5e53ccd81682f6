"""A comparison in a process of its own that is killed, as by `kill -9`, at a chosen moment."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import modeling_utils

from gibbsian.experiments import CompareConfig, compare
from gibbsian.experiments import recorder as recorder_module

context = multiprocessing.get_context("forkserver")
# The server imports once, and every attempt is forked from it.
context.set_forkserver_preload(["tests.experiments.killing"])


class SilentObserver:
    def on_run(self, name: str, index: int, total: int, first_step: int, last_step: int) -> None:
        pass

    def on_step(self, step: int, loss: float) -> None:
        pass


def run_to_death(config: CompareConfig, out: Path, kill_at: int | None) -> int | None:
    """Start or resume; die at the `kill_at`-th change of the disk (None = live). The exit code."""
    process = context.Process(target=_attempt, args=(config, out, kill_at))
    process.start()
    process.join()
    return process.exitcode


def _attempt(config: CompareConfig, out: Path, kill_at: int | None) -> None:
    torch.set_num_threads(1)
    if kill_at is not None:
        _arm(kill_at)
    compare(config, out, observer=SilentObserver(), resume=(out / "config.json").exists())


def _arm(kill_at: int) -> None:
    left = kill_at

    def dying(change: Callable[..., Any], half: Callable[..., None]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                half(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*args, **kwargs)

        return changed

    def half_a_file(_: Any, path: Any, *__: Any) -> None:
        Path(path).write_bytes(b"half")

    def half_a_line(path: Path, *_: Any) -> None:
        with path.open("a") as file:
            file.write('{"step": 1, "lo')

    def half_a_folder(path: Any, *_: Any) -> None:
        next(iter(sorted(Path(path).iterdir()))).unlink()

    def nothing(*_: Any) -> None:
        pass

    torch.save = dying(torch.save, half_a_file)
    modeling_utils.safe_save_file = dying(modeling_utils.safe_save_file, half_a_file)
    shutil.rmtree = dying(shutil.rmtree, half_a_folder)
    recorder_module.append_record = dying(recorder_module.append_record, half_a_line)
    Path.replace = dying(Path.replace, nothing)  # type: ignore[method-assign]
