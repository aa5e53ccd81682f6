"""Which checkpoints may be used.

The trainer of transformers writes a checkpoint's files in place. A seal, written last and in one
piece, lists them with their hashes: a folder without a seal is half-written and is thrown away; a
sealed folder whose files do not match is damaged, and that is an error.
"""

import hashlib
import json
import shutil
from pathlib import Path

from gibbsian._errors import CheckpointError
from gibbsian.experiments.files import write_json

SEAL = "seal.json"


def seal(folder: Path) -> None:
    """Declare a checkpoint complete."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    write_json(folder / SEAL, {path.name: _sha256(path) for path in files})


def newest(folder: Path) -> Path | None:
    """The last sealed checkpoint of a run, its files verified; half-written ones are removed.

    Raises:
        CheckpointError: a file of the last sealed checkpoint is damaged or missing.
    """
    if not folder.is_dir():
        return None
    found = sorted(folder.glob("checkpoint-*"), key=step_of)
    for unsealed in [path for path in found if not (path / SEAL).exists()]:
        shutil.rmtree(unsealed)
        found.remove(unsealed)
    if not found:
        return None
    _verify(found[-1])
    return found[-1]


def step_of(checkpoint: Path) -> int:
    """Number of optimiser steps taken before a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def _verify(checkpoint: Path) -> None:
    way_out = f"Delete the folder {checkpoint} to go on from the checkpoint before it"
    try:
        hashes = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    except ValueError:
        raise CheckpointError(f"{checkpoint / SEAL} is damaged: not JSON. {way_out}.") from None
    for name, expected in hashes.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing. {way_out}.")
        if _sha256(path) != expected:
            raise CheckpointError(
                f"{path} is damaged: its hash is not the recorded one. {way_out}."
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
