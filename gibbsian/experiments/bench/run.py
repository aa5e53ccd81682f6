"""Runs cases one by one and keeps what is finished on disk."""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from gibbsian._errors import ArgumentError, DataError
from gibbsian.experiments.bench.case import (
    Case,
    Contender,
    Operation,
    Outputs,
    Ratio,
    random_cotangents,
)
from gibbsian.experiments.bench.memory import Child, measure_here, measure_in_child
from gibbsian.experiments.bench.registry import all_cases, select
from gibbsian.experiments.bench.timing import (
    interleave,
    seconds_of,
    settle,
    summarise,
    summarise_ratio,
)
from gibbsian.experiments.bench.verify import Results, call_for_check, verify
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions

_PACKAGES = (
    "numba",
    "entmax",
    "linear-attention-transformer",
    "linformer",
    "nystrom-attention",
    "performer-pytorch",
)
_THREAD_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "NUMBA_")
_CHILD_TIMEOUT = 1800.0
_PACKAGE = Path(__file__).parents[2]
_NAMES = {"versions": "versions", "source": "sources of the package (SHA-256)"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchConfig:
    """Settings of a benchmark.

    Raises:
        ArgumentError: a number out of range.
    """

    repeats: int = 21
    """Rounds of a case, at most."""
    budget: float = 60.0
    """Seconds after which no further round of a case starts (three rounds are always made)."""
    threads: int = 2
    """Of torch, and of the package's own kernels."""
    quick: bool = False
    """Tiny sizes: shows that all works, says nothing about speed."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("repeats", "threads"):
            value = getattr(self, name)
            if value < 1:
                raise ArgumentError(f"`{name}` must be at least 1, got {value}.")
        if not self.budget >= 0:
            raise ArgumentError(f"`budget` must be a number of seconds >= 0, got {self.budget}.")


@runtime_checkable
class BenchObserver(Protocol):
    """Told about the progress."""

    def on_case(self, name: str, index: int, total: int) -> None:
        """A case begins, or was found finished."""

    def on_step(self, text: str) -> None:
        """What the case is doing."""


def run_benchmark(
    config: BenchConfig,
    patterns: Sequence[str],
    output: Path,
    *,
    observer: BenchObserver,
    resume: bool = False,
    cases: Mapping[str, Case] | None = None,
) -> dict[str, Any]:
    """Run the selected cases; `output` holds all that are finished, whole, at any time.

    Args:
        config: settings.
        patterns: names of cases, or patterns with * and ?; none = all but the optional.
        output: results, JSON.
        observer: told about the progress.
        resume: keep the cases that `output` holds and that are right, and add the others.
        cases: what to choose from; None = the registry.

    Returns:
        What is in the file.

    Raises:
        ArgumentError: a pattern that matches nothing; `output` exists without `resume`; or it was
            made with other settings, versions or sources.
        DataError: `output` is not a file of results.
    """
    known = dict(all_cases(quick=config.quick) if cases is None else cases)
    selected = select(known, patterns)
    results = _start(config, output, resume)
    results["declared"] = _declared(known.values())
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        for index, case in enumerate(selected):
            observer.on_case(case.name, index, len(selected))
            if case.name in results["cases"] and not has_failed(results["cases"][case.name]):
                continue
            results["cases"][case.name] = run_case(case, config, observer)
            order = [name for name in known if name in results["cases"]]
            results["cases"] = {name: results["cases"][name] for name in order}
            write_json(output, results)
    finally:
        torch.set_num_threads(threads)
    write_json(output, results)
    return _stored(output)


def has_failed(case: Mapping[str, Any]) -> bool:
    """Whether a contender of the case was wrong or could not run."""
    return any(c["status"] in ("WRONG", "failed") for c in case["contenders"].values())


def is_red(results: Mapping[str, Any]) -> bool:
    """Whether any case has failed."""
    return any(map(has_failed, results["cases"].values()))


def _start(config: BenchConfig, output: Path, resume: bool) -> dict[str, Any]:
    settings = asdict(config)
    versions = describe_versions(*_PACKAGES)
    source = source_digest()
    if output.exists():
        if not resume:
            raise ArgumentError(
                f"`output` must not exist, but {output} does. Add --resume to go on with it, or "
                "give another file."
            )
        results = _stored(output)
        if results["settings"] != settings:
            raise ArgumentError(
                f"`output` must have been made with the same settings, got {settings} for "
                f"{results['settings']} in {output}. Give those, or another file."
            )
        for name, now in (("versions", versions), ("source", source)):
            if results[name] != now:
                raise ArgumentError(
                    f"`output` must have been made with the same {_NAMES[name]}, got "
                    f"{_difference(results[name], now)} in {output}. Give another file."
                )
        return results
    device = torch.device("cpu")
    results = {
        "settings": settings,
        "machine": {**describe_machine(device), "torch_threads": config.threads},
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_THREAD_VARIABLES)
        },
        "versions": versions,
        "source": source,
        "cases": {},
    }
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, results)
    except OSError as error:
        raise ArgumentError(
            f"`output` must be a file that can be written, got {output} ({error.strerror})."
        ) from None
    return results


def source_digest() -> str:
    """SHA-256 of the package's Python files, names and contents."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _difference(then: Any, now: Any) -> str:
    """What differs, at its first place."""
    if isinstance(then, dict) and isinstance(now, dict):
        name = next(n for n in sorted({*then, *now}) if then.get(n) != now.get(n))
        return f"{name} {now.get(name)} for {then.get(name)}"
    return f"{str(now)[:8]} for {str(then)[:8]}"


def _stored(output: Path) -> dict[str, Any]:
    try:
        results: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        if not {"settings", "machine", "versions", "source", "cases"} <= set(results):
            raise DataError(f"{output} is not a file of `gibbsian bench`. Give another one.")
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{output} is not a file of `gibbsian bench`: not JSON. Give another one."
        ) from None
    return results


def run_case(case: Case, config: BenchConfig, observer: BenchObserver) -> dict[str, Any]:
    """Verify and measure one case: its entry in the results."""
    entry: dict[str, Any] = {
        "group": case.group,
        "size": case.size,
        "mode": case.mode,
        "quantity": case.quantity,
        "bar_bytes": case.bar_bytes,
        "load_average": _load(),
        "facts": {} if case.facts is None else case.facts(case.fresh_tensors()),
    }
    measure = _measure_seconds if case.quantity == "seconds" else _measure_bytes
    contenders, samples = measure(case, config, observer)
    for contender in case.contenders:
        found = contenders[contender.name]
        contenders[contender.name] = {
            "status": found.pop("status"),
            "note": contender.note,
            "package": contender.package,
            **found,
        }
    entry["contenders"] = {c.name: contenders[c.name] for c in case.contenders}
    entry["ratios"] = [
        {**asdict(ratio), **_ratio_or_reason(ratio, entry["contenders"], samples)}
        for ratio in case.ratios
    ]
    return entry


def _ratio_or_reason(
    ratio: Ratio, contenders: Mapping[str, Any], samples: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    for name in (ratio.of, ratio.to):
        if name not in samples:
            return {"ratio": None, "reason": f"{name} {contenders[name]['status']}"}
    if min(samples[ratio.to]) <= 0:
        return {"ratio": None, "reason": f"{ratio.to} too small to measure"}
    return summarise_ratio(samples[ratio.of], samples[ratio.to])


def _declared(cases: Iterable[Case]) -> list[dict[str, Any]]:
    """Every bar that there is, so that one that was never measured cannot go unseen."""
    return [
        {
            "case": case.name,
            "group": case.group,
            "size": case.size,
            "contender": case.contenders[0].name,
            "bar_bytes": case.bar_bytes,
            "ratios": [asdict(ratio) for ratio in case.ratios if ratio.bar is not None],
        }
        for case in cases
        if case.bar_bytes is not None or any(ratio.bar is not None for ratio in case.ratios)
    ]


_Measured = tuple[dict[str, dict[str, Any]], dict[str, list[float]]]


def _measure_seconds(case: Case, config: BenchConfig, observer: BenchObserver) -> _Measured:
    entries: dict[str, dict[str, Any]] = {}
    guarded: dict[str, _Guarded] = {}
    tensors = case.fresh_tensors()
    for contender in case.contenders:
        observer.on_step(f"checking {contender.name}")
        entry, operation, shapes = _checked(case, contender, tensors)
        entries[contender.name] = entry
        if operation is not None:
            cotangents = random_cotangents(shapes) if case.mode == "gradients" else None
            one = partial(seconds_of, operation, case.mode, cotangents)
            guarded[contender.name] = _Guarded(one)
    # a whole model's first call is long enough to warm it up
    warm = settle if case.mode != "iteration" else lambda timer: timer
    samples = interleave(
        {name: warm(timer) for name, timer in guarded.items()},
        repeats=config.repeats,
        budget=config.budget,
        on_round=lambda done, of: observer.on_step(f"round {done} of at most {of}"),
    )
    for name, timer in guarded.items():
        if timer.error is None:
            entries[name]["seconds"] = summarise(samples[name])
        else:
            entries[name] = _failure(timer.error)
            del samples[name]
    return entries, samples


class _Guarded:
    """A timer that after a failure is not called again, and does not end the others' rounds."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self.error: Exception | None = None

    def __call__(self) -> float:
        if self.error is None:
            try:
                return self._timer()
            except Exception as error:  # noqa: BLE001  (one contender's failure must not end the others' run)
                self.error = error
        return math.nan


def _checked(
    case: Case, contender: Contender, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Any], Operation | None, Outputs]:
    """The contender's entry so far, its operation if it may be timed, and what that computes."""
    if contender.left_out is not None:
        return _left_out(contender), None, ()
    try:
        operation = contender.prepare(tensors)
        first, results = _first_call(case, contender, operation)
        check = verify(case, contender, operation, tensors, results)
    except ImportError as error:
        return _missing(contender.package or str(error.name), error), None, ()
    except Exception as error:  # noqa: BLE001  (one contender's failure must not end the others' run)
        return _failure(error), None, ()
    report = {"error": check.error, "bound": check.bound, "against": check.against}
    if not check.passed:
        return {"status": "WRONG", "check": report}, None, ()
    entry = {"status": "ok", "check": report, "first_call_s": first}
    return entry, operation, results.outputs


def _left_out(contender: Contender) -> dict[str, Any]:
    return {"status": "not run", "detail": contender.left_out}


def _failure(error: Exception) -> dict[str, Any]:
    detail = " ".join(f"{type(error).__name__}: {error}".split())
    return {"status": "failed", "detail": detail[:300]}


def _missing(package: str, error: ImportError) -> dict[str, Any]:
    if describe_versions(package)[package] == "not installed":
        return {"status": "not installed", "detail": f"pip install {package}"}
    return {"status": "not usable", "detail": f"{package} does not import: {error}"}


def _first_call(case: Case, contender: Contender, operation: Operation) -> tuple[float, Results]:
    """The very first call, in which kernels are compiled or read from their cache: its seconds."""
    if operation.before is not None:
        operation.before()
    start = time.perf_counter()
    results = call_for_check(case, contender, operation)
    seconds = time.perf_counter() - start
    if operation.after is not None:
        operation.after()
    return seconds, results


def _measure_bytes(case: Case, config: BenchConfig, observer: BenchObserver) -> _Measured:
    entries, samples = {}, {}
    for contender in case.contenders:
        observer.on_step(f"measuring {contender.name}")
        if contender.left_out is not None:
            found = _left_out(contender)
        elif config.quick:
            # Bytes so small mean nothing anywhere, and starting a process takes seconds.
            try:
                found = measure_here(case, contender)
            except Exception as error:  # noqa: BLE001  (as where seconds are measured)
                found = _failure(error)
        else:
            child = Child(case=case.name, contender=contender.name, threads=config.threads)
            found = measure_in_child(child, timeout=_CHILD_TIMEOUT)
        entries[contender.name] = found
        if found["status"] == "ok":
            samples[contender.name] = [float(found["bytes"])]
    return entries, samples


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
