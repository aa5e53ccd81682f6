"""Where a command writes that was not told where."""

from datetime import datetime, timezone
from pathlib import Path

from gibbsian._errors import ArgumentError


def fresh_folder(command: str) -> Path:
    """A new folder under runs/, by the name of the command and the time."""
    now = datetime.now(tz=timezone.utc).astimezone()
    return Path("runs") / now.strftime(f"{command}-%Y-%m-%d-%H%M%S")


def fresh_results(command: str, *, resume: bool) -> Path:
    """A new JSON file, named likewise.

    Raises:
        ArgumentError: an old one is to be gone on with.
    """
    if resume:
        raise ArgumentError("`--resume` needs the file to go on with. Add --output FILE.")
    return fresh_folder(command).with_suffix(".json")
