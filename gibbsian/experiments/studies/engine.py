"""Figures about the CPU engine that the docs quote: product, threads, time to compile.

On a quiet machine, about a minute:

    python -m gibbsian.experiments.studies.engine --out results
"""

import argparse
import ast
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gibbsian.attention import lln_attention
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.numerics.cpu import threads
from gibbsian.numerics.cpu.matmul import multiply, pack_transposed
from gibbsian.numerics.cpu.simd import PANEL

NAME = "engine"
_ROUNDS = 25


def seconds(*operations: Callable[[], object]) -> list[float]:
    """Median seconds of each, run in turns after a first call."""
    times: list[list[float]] = [[] for _ in operations]
    for operation in operations:
        operation()
    for _ in range(_ROUNDS):
        for own, operation in zip(times, operations, strict=True):
            start = time.perf_counter()
            operation()
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def product(rows: int = 256, depth: int = 64, columns: int = 4096) -> dict[str, float]:
    """GFLOP/s of a product with packed columns, and of torch's, on one thread."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, depth, generator=generator) for n in (rows, columns))
    panels = np.empty((columns // PANEL, depth, PANEL), np.float32)
    pack_transposed(b.numpy(), panels)
    ours, theirs = torch.empty(rows, columns), torch.empty(rows, columns)
    addresses = [array.ctypes.data for array in (a.numpy(), panels, ours.numpy())]

    def tiles() -> None:
        left, right, result = addresses
        multiply(
            *(left, depth, 1),
            *(right, depth * PANEL, PANEL),
            *(result, columns, rows, depth, columns, 0),
        )

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = seconds(tiles, lambda: torch.mm(a, b.T, out=theirs))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    flops = 2 * rows * depth * columns
    return dict(zip(("register_tiles", "torch_mm"), (flops / t / 1e9 for t in times), strict=True))


def thread_teams(length: int = 1024, heads: int = 8, head_dim: int = 64) -> dict[str, float]:
    """Milliseconds of LLN forward and backward on one thread and on two, torch's or Python's."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, heads, length, head_dim)
    inputs = [torch.randn(shape, generator=generator).requires_grad_() for _ in range(3)]

    def step(count: int, team: Any) -> Callable[[], None]:
        def run() -> None:
            torch.set_num_threads(count)
            threads._team_of_openmp = team  # noqa: SLF001  # what the study is about
            torch.autograd.grad(lln_attention(*inputs).sum(), inputs)

        return run

    before, openmp = torch.get_num_threads(), threads._team_of_openmp  # noqa: SLF001
    try:
        times = seconds(step(1, openmp), step(2, openmp), step(2, None))
    finally:
        torch.set_num_threads(before)
        threads._team_of_openmp = openmp  # noqa: SLF001
    names = ("one_thread", "two_threads_of_torch", "two_threads_of_python")
    return dict(zip(names, (1e3 * t for t in times), strict=True))


_WARM_UP = """
import time
start = time.perf_counter()
from gibbsian.attention.warm_up import warm_up
seconds = dict(warm_up())
print({"importing": time.perf_counter() - start - sum(seconds.values()), **seconds})
"""


def first_calls() -> dict[str, dict[str, float]]:
    """Seconds of `gibbsian warm-up` in a new process, with nothing compiled yet and again."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        outputs = [
            subprocess.run(  # noqa: S603  # this interpreter, the lines above
                [sys.executable, "-c", _WARM_UP],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for _ in range(2)
        ]
    return dict(zip(("cold", "cached"), map(ast.literal_eval, outputs), strict=True))


def main() -> None:
    """Write `engine.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the result")
    out = parser.parse_args().out
    result = {
        "command": f"python -m gibbsian.experiments.studies.engine --out {out}",
        "machine": describe_machine(torch.device("cpu")),
        "versions": describe_versions(),
        "product_gflops_one_thread": product(),
        "lln_forward_backward_1024_ms": thread_teams(),
        "warm_up_seconds": first_calls(),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{NAME}.json", result)


if __name__ == "__main__":
    main()
