"""Peak memory of one operation, measured from outside of Python in a process that is new.

The peak is the process's largest resident memory, so scratch inside fused operators and in threads
counts too. On Linux the kernel's mark is reset before the call; elsewhere the mark since the start
of the process is read before and after, and a call that stays below an earlier peak reads 0.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gibbsian.experiments.bench.case import Case, Contender
from gibbsian.experiments.bench.verify import call_for_check, verify

_SMALL = 256
_STATUS, _MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CHILD = "gibbsian.experiments.bench.memory_child"
# Freed memory goes back to the system at once, so that no later growth hides in it.
_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """What a new process has to measure."""

    case: str
    """Name of the case."""
    contender: str
    """Name of the contender."""
    threads: int
    """Threads of torch."""


def measure_in_child(child: Child, *, timeout: float) -> dict[str, Any]:
    """Start the process and read what it found: an entry of `results.json`.

    A process that fails, is killed, or takes longer than `timeout` seconds gives an entry that says
    so.
    """
    command = [sys.executable, "-m", _CHILD, child.case, child.contender]
    command += [str(child.threads)]
    try:
        done = subprocess.run(  # noqa: S603  (our own module)
            command,
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"status": "failed", "detail": f"took more than {timeout:.0f} s"}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"status": "failed", "detail": last[:300]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_here(case: Case, contender: Contender) -> dict[str, Any]:
    """Measure in this process, which should have done nothing else; then verify.

    For an iteration of a model everything counts from before the model is built. Else inputs are
    made before; the results count, with the gradients of the outputs that gradients are taken with:
    nothing is taken off, because not all of them need be alive at the peak. Libraries, kernels and
    threads do not count: something small runs before.
    """
    tensors = case.fresh_tensors()
    whole = case.mode == "iteration"
    if whole and contender.check is not None:
        contender.check()
    elif not whole:
        small = case.fresh_tensors(min(case.size, _SMALL))
        warm = contender.prepare(small)
        call_for_check(case, contender, warm)
        del warm, small
    operation = None if whole else contender.prepare(tensors)
    before = reset_peak()
    if operation is None:
        operation = contender.prepare(tensors)
    if operation.before is not None:
        operation.before()
    results = call_for_check(case, contender, operation)
    growth = peak_bytes() - before
    if operation.after is not None:
        operation.after()
    check = verify(case, contender, operation, tensors, results)
    report = {"error": check.error, "bound": check.bound, "against": check.against}
    if not check.passed:
        return {"status": "WRONG", "check": report}
    return {"status": "ok", "check": report, "bytes": growth}


def limit_memory() -> None:
    """Make an allocation fail beyond the machine's free memory, before anybody is killed."""
    status = _fields(Path("/proc/meminfo"))
    used = _fields(_STATUS).get("VmSize")
    if sys.platform != "win32" and used is not None and "MemAvailable" in status:
        import resource  # noqa: PLC0415  (POSIX only)

        allowed = used + int(0.9 * status["MemAvailable"])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


def require_memory(count: int) -> None:
    """Refuse what would not fit, before the system ends the whole process.

    Raises:
        MemoryError: less than so many bytes are free on this machine.
    """
    free = _fields(Path("/proc/meminfo")).get("MemAvailable", count)
    if free < count:
        raise MemoryError(
            f"needs {count / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free. "
            "End other programs and run the case again."
        )


def reset_peak() -> int:
    """Forget the peak so far; returns the bytes from which to count."""
    try:
        _MARK.write_text("5")
    except OSError:
        return peak_bytes()
    return _fields(_STATUS)["VmRSS"]


def peak_bytes() -> int:
    """Largest resident memory since the reset, or since the process started."""
    mark = _fields(_STATUS).get("VmHWM")
    if mark is not None:
        return mark
    if sys.platform == "win32":
        raise MemoryError("peak memory is measured on POSIX systems only")
    import resource  # noqa: PLC0415

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _fields(path: Path) -> Mapping[str, int]:
    """The lines `Name: number kB` of a file under /proc, in bytes; none where there is no /proc."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    parts = (line.partition(":") for line in lines)
    return {name: 1024 * int(rest.split()[0]) for name, _, rest in parts if rest.endswith(" kB")}
