"""An inspection's folder: there whole, or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gibbsian._errors import ArgumentError, DataError

INSPECTION = "inspection.json"
STATISTICS = "statistics.parquet"
REPORT = "report.html"
SCHEMA = 1
"""Of inspection.json."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write in that takes its name when the block ends, and vanishes if it fails.

    Args:
        target: must not exist, or be an empty folder that can be replaced: no mount point, and not
            the working directory.

    Yields:
        A hidden folder beside it.

    Raises:
        ArgumentError: `target` is in use, or nothing can be written there.
    """
    try:
        # a link would be replaced instead of the folder that it names
        target = target.resolve()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ArgumentError(
                f"`--output` must be a new or empty folder, got {target}. Give another one."
            )
        if target.is_mount() or target == Path.cwd():
            raise ArgumentError(
                f"`--output` must be a folder that can be replaced, got {target}, which is a mount "
                "point or the working directory. Give a new folder inside it."
            )
        aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
    except OSError as error:
        raise _not_writable(target, error) from None
    try:
        yield aside
        aside.replace(target)
    except OSError as error:
        raise _not_writable(target, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _not_writable(target: Path, error: OSError) -> ArgumentError:
    if error.errno in _FULL:
        return ArgumentError(
            f"`--output` must be on a disk with room, but that of {target} is full: "
            f"{error.strerror}. Free some, or give a folder on another disk."
        )
    # `Path.is_file` raises where a folder above may not be entered
    above = next((parent for parent in target.parents if os.path.isfile(parent)), None)  # noqa: PTH113
    if above is not None:
        return ArgumentError(
            f"`--output` must be a folder that can be written, got {target}, which lies under "
            f"{above}, a file. Give another folder."
        )
    return ArgumentError(
        f"`--output` must be a folder that can be written, got {target}: "
        f"{error.strerror or error}. Give another folder."
    )


def load_inspection(folder: Path) -> dict[str, Any]:
    """The inspection.json of an earlier inspection.

    Raises:
        DataError: there is none, or it is not one of this version.
    """
    path = folder / INSPECTION
    try:
        inspection: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"`--baseline` must be the folder of an inspection, got {folder}: {path.name}: "
            f"{error.strerror}. Give the --output of an earlier run."
        ) from None
    except ValueError:
        inspection = None
    if not isinstance(inspection, dict) or inspection.get("schema") != SCHEMA:
        raise DataError(
            f"`--baseline` must be the folder of an inspection, but {path} is none that this "
            f"version (schema {SCHEMA}) wrote. Inspect the model again."
        )
    return inspection
