"""Parts of a long measurement, kept on disk while it runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gibbsian.experiments.files import write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keeper:
    folder: Path
    on_part: Callable[[int, int], None]


_KEEPER: ContextVar[_Keeper | None] = ContextVar("gibbsian_claims_parts", default=None)


@contextmanager
def kept_in(folder: Path, on_part: Callable[[int, int], None]) -> Iterator[None]:
    """Within it `kept_part` keeps what it makes in `folder`, and tells `on_part` (done, total)."""
    token = _KEEPER.set(_Keeper(folder=folder, on_part=on_part))
    try:
        yield
    finally:
        _KEEPER.reset(token)


def kept_part(name: str, make: Callable[[], Any]) -> Any:
    """What `make` returns, read from disk if an interrupted run has made it already.

    Args:
        name: of the part, unique in its claim; a file's name.
        make: returns something JSON can hold.

    Returns:
        It as JSON holds it (tuples are lists, keys are text), made now or before.
    """
    keeper = _KEEPER.get()
    path = None if keeper is None else keeper.folder / f"{name}.json"
    if path is not None and path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    made = json.loads(json.dumps(make()))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, made)
    return made


def report_progress(done: int, total: int) -> None:
    """Tell how far the measurement is."""
    keeper = _KEEPER.get()
    if keeper is not None:
        keeper.on_part(done, total)
