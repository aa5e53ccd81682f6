"""Runs claims one by one and keeps what is settled on disk."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from gibbsian._errors import ArgumentError, DataError
from gibbsian.experiments.claims.claim import Claim, Size
from gibbsian.experiments.claims.parts import kept_in
from gibbsian.experiments.claims.registry import all_claims, select
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions

SCHEMA = 1
_CONDITIONS = ("machine", "versions")


@runtime_checkable
class ClaimsObserver(Protocol):
    """Told about the progress."""

    def on_claim(self, name: str, index: int, total: int) -> None:
        """A claim begins, or was found settled."""

    def on_part(self, done: int, total: int) -> None:
        """So many parts of the claim are done; not every claim has parts."""


def run_claims(
    ids: Sequence[str],
    output: Path,
    *,
    size: Size = "quick",
    seed: int = 0,
    resume: bool = False,
    observer: ClaimsObserver,
    claims: Mapping[str, Claim] | None = None,
) -> dict[str, Any]:
    """Measure the claims; `output` holds all that are settled, whole, at any time.

    Args:
        ids: of the claims; none = all.
        output: results, JSON. If it exists, its other claims stay.
        size: how much is measured.
        seed: the first of the seeds.
        resume: leave the claims alone that `output` already holds, and go on with the parts of
            one that was interrupted.
        observer: told about the progress.
        claims: what to choose from; None = the registry.

    Returns:
        What is in the file.

    Raises:
        ArgumentError: an unknown id; or `output` was made with another size or seed.
        DataError: `output` is not a file of claims, or cannot be written.
    """
    known = dict(all_claims() if claims is None else claims)
    selected = select(known, ids)
    results = _start(output, size, seed)
    for index, claim in enumerate(selected):
        observer.on_claim(claim.id, index, len(selected))
        if resume and claim.id in results["claims"]:
            continue
        began = time.perf_counter()
        parts = output.with_name(f".{output.name}.parts") / claim.id
        if not resume:
            shutil.rmtree(parts, ignore_errors=True)
        with kept_in(parts, observer.on_part):
            settled = claim.run(size, seed).to_json()
        settled["seconds"] = round(time.perf_counter() - began, 1)
        settled |= {name: results[name] for name in _CONDITIONS}
        results["claims"][claim.id] = settled
        order = [name for name in known if name in results["claims"]]
        results["claims"] = {name: results["claims"][name] for name in order}
        _write(output, results)
        shutil.rmtree(parts, ignore_errors=True)
        _remove_empty(parts.parent)
    stored: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return stored


def _start(output: Path, size: Size, seed: int) -> dict[str, Any]:
    """The file's content, or a new one; the file is there after this."""
    settings = {"size": size, "seed": seed}
    fresh = {
        "schema": SCHEMA,
        "command": f"gibbsian claims{' --full' if size == 'full' else ''} --seed {seed}",
        "settings": settings,
        "machine": describe_machine(torch.device("cpu")),
        "versions": describe_versions(),
        "claims": {},
    }
    if output.exists():
        found = _read(output)
        if found["settings"] != settings:
            raise ArgumentError(
                f"`output` must hold claims of the same size and seed, {settings}, got "
                f"{found['settings']} in {output}. Choose another file."
            )
        # measured under the conditions that are theirs, or the file's
        before = {name: found[name] for name in _CONDITIONS}
        fresh["claims"] = {name: before | claim for name, claim in found["claims"].items()}
    _write(output, fresh)
    return fresh


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or "claims" not in found:
        raise DataError(f"`output` must be results of `gibbsian claims`, got {path}. Move it away.")
    return found


def _write(path: Path, results: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, results)
    except OSError as error:
        raise DataError(
            f"`output` must be writable, got {path}: {error.strerror}. Choose another file."
        ) from None
