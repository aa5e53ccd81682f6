"""JSON that is never half-written, and JSON lines that survive a kill."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gibbsian._files import write_atomic


def write_json(path: Path, content: Any) -> None:
    """`write_atomic` of indented JSON; NaN and infinity, which JSON lacks, become null."""
    write_atomic(path, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not abs(content) < float("inf"):
        return None
    return content


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add one line; the system has it when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(record), allow_nan=False) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON lines file; none if it does not exist.

    A last line that a kill cut short is left out.
    """
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def rewind_records(path: Path, last_step: int) -> None:
    """Keep the records up to and including `last_step`: the rest is about to be made again."""
    kept: Iterable[dict[str, Any]] = (r for r in read_records(path) if r["step"] <= last_step)
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept))
