"""The text of a comparison, and its split into training and validation blocks."""

import hashlib
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path

from gibbsian._errors import DataError

EMBEDDED = ("emma", "pride_and_prejudice", "sense_and_sensibility")
NUM_BLOCKS = 50
VALIDATION_EVERY = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text with its name."""

    name: str
    """What it is, for a reader."""
    content: str
    """The text itself."""

    @property
    def num_bytes(self) -> int:
        """Length in UTF-8."""
        return len(self.content.encode())

    @property
    def sha256(self) -> str:
        """Hash of the UTF-8 bytes."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def load_text(paths: Sequence[str] = ()) -> Text:
    """The files' texts one after the other; without files, the embedded novels.

    Raises:
        DataError: a file cannot be read, is empty or is not UTF-8.
    """
    if not paths:
        folder = resources.files("gibbsian.experiments") / "data"
        novels = [lzma.decompress((folder / f"{n}.txt.xz").read_bytes()) for n in EMBEDDED]
        title = "Emma, Pride and Prejudice, Sense and Sensibility (Jane Austen)"
        return Text(name=title, content=b"".join(novels).decode())
    content = "".join(_read(Path(path)) for path in paths)
    return Text(name=", ".join(Path(path).name for path in paths), content=content)


def _read(path: Path) -> str:
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"`text` must be UTF-8, got byte 0x{error.object[error.start]:02x} at offset "
            f"{error.start} of {path}. Convert it, e.g. `iconv -t UTF-8`."
        ) from None
    except OSError as error:
        raise DataError(
            f"`text` must be readable files, got {path}: {error.strerror}. Check the path."
        ) from None
    if not content.strip():
        raise DataError(f"`text` must not be empty, got {path}. Give a file with text in it.")
    return content


def split(content: str) -> tuple[list[str], list[str]]:
    """Training and validation stretches: of 50 contiguous blocks of equal length, every tenth.

    The validation blocks are spread over the whole text, so that both parts come from all of its
    files; a stretch is what lies between two cuts, and no window crosses a cut.
    """
    size = len(content) / NUM_BLOCKS
    cuts = [round(i * size) for i in range(NUM_BLOCKS + 1)]
    train: list[str] = []
    validation: list[str] = []
    blocks = range(NUM_BLOCKS)
    for held_out, group in groupby(blocks, lambda i: i % VALIDATION_EVERY == VALIDATION_EVERY - 1):
        members = list(group)
        stretch = content[cuts[members[0]] : cuts[members[-1] + 1]]
        (validation if held_out else train).append(stretch)
    return train, validation
