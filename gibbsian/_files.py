"""Files that are never half-written."""

import os
from pathlib import Path


def write_atomic(path: Path, content: str) -> None:
    """Write a file aside, then rename it: a reader sees the old file or the new one, whole.

    What is no file (a pipe, a device) is written to as it is.
    """
    if path.exists() and not path.is_file():
        path.write_text(content, encoding="utf-8")
        return
    path = path.resolve()  # what a link leads to is replaced, not the link
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
