"""What is decoded, piece by piece, on disk: a run that was killed goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gibbsian._errors import DataError
from gibbsian.experiments.files import write_json


class Cells:
    """A folder with one JSON file for each piece, written aside and renamed.

    Args:
        folder: made if it does not exist.
        settings: everything that the pieces depend on.

    Raises:
        DataError: the folder holds pieces of other settings, or cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder = folder
        path = folder / "settings.json"
        given = json.loads(json.dumps(settings))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_json(path, given)
        except OSError as error:
            raise DataError(
                f"`--out` must be writable, got {folder}: {error.strerror}. Choose another folder."
            ) from None
        found = _read(path)
        if found != given:
            raise DataError(
                f"`--out` holds pieces of a run with other settings, in {folder}. Give the same "
                "options, or remove that folder."
            )

    def get(self, *names: str) -> Any | None:
        """A piece, or None."""
        path = self._path(names)
        return _read(path) if path.exists() else None

    def made(self, make: Callable[[], Any], *names: str) -> Any:
        """A piece, which is made if it is not there."""
        if (found := self.get(*names)) is not None:
            return found
        write_json(self._path(names), make())
        return self.get(*names)

    def _path(self, names: tuple[str, ...]) -> Path:
        return self._folder / ("-".join(names).replace(" ", "_") + ".json")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"`--out` holds a damaged piece: {path}. Remove it.") from None
