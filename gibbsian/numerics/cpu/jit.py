"""How every kernel is compiled: without the interpreter's lock, and kept on disk."""

import contextlib
import hashlib
import inspect
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps
from numba.extending import intrinsic

SUMS = frozenset({"contract", "reassoc", "nsz", "arcp"})
"""Floating-point liberties of a kernel: sums in any order, as vectors take them. NaN and the
infinities keep their meaning."""

EXACT = frozenset({"contract"})
"""For arithmetic whose order matters (rounding tricks, polynomials): only multiply-adds fuse."""


_LAYERS = (
    "numerics",
    "statistics",
    "normalizers",
    "attention",
    "observables/cpu",
    "sampling/cpu",
)
"""The folders that kernels take functions and constants from."""


def _digest_of_sources() -> str:
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for layer in _LAYERS:
        for path in sorted(root.glob(f"{layer}/**/*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = _digest_of_sources()
_VERSION_LENGTH = 12


class _CacheFiles:
    """A file for each compiled form of a function.

    numba's own scheme numbers the files and keeps an index: two processes that compile at once may
    give one number to two forms, and one of them then runs the other's code. And it looks for
    changes in the file of the function only, where a kernel is made of functions of several.

    A name tells function, sources and form. What other sources have left in the folder goes when
    something is saved; all may read what stays.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._folder, self._name = Path(folder), name

    def save(self, key: object, data: object) -> None:
        """A full disk, or a folder that can no longer be written to, costs the cache only."""
        written = None
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".tmp", delete=False) as file:
                written = Path(file.name)
                content = dumps(data)
                file.write(hashlib.sha256(content).digest() + content)
            written.chmod(0o644)
            written.replace(self._path(key))
            self._remove_old()
        except OSError:
            if written is not None:
                written.unlink(missing_ok=True)

    def load(self, key: object) -> Any:
        """What `save` wrote; None if there is no file, or one that was cut short."""
        try:
            stored = self._path(key).read_bytes()
        except OSError:
            return None
        digest, content = stored[:32], stored[32:]
        if hashlib.sha256(content).digest() != digest:
            return None
        # written by `save`, in the user's own cache, as numba's
        return pickle.loads(content)  # noqa: S301

    def _path(self, key: object) -> Path:
        digest = hashlib.sha256(f"{_SOURCES} {numba.__version__} {key!r}".encode()).hexdigest()
        return self._folder / f"{self._name}-{_SOURCES[:_VERSION_LENGTH]}-{digest[:32]}.nbc"

    def _remove_old(self) -> None:
        for path in self._folder.glob("*.nbc"):
            if f"-{_SOURCES[:_VERSION_LENGTH]}-" not in path.name:
                path.unlink(missing_ok=True)


class _Cache(FunctionCache):
    def __init__(self, function: Any) -> None:
        super().__init__(function)
        files: Any = _CacheFiles(self._cache_path, self._impl.filename_base)
        self._cache_file = files


def kernel(function: Any) -> Any:
    """Compile on first call; the machine code is cached beside the source, or in the user's cache.

    A kernel releases the interpreter's lock and knows nothing of Python objects.
    """
    return _compiled(function, SUMS)


def exact(function: Any) -> Any:
    """Like `kernel`, for a helper whose operations may not be reordered."""
    return _compiled(function, EXACT)


def strict(function: Any) -> Any:
    """Like `exact`, for a helper that rounds after every operation, as torch does."""
    return _compiled(function, frozenset())


def instruction(function: Any) -> Any:
    """What kernels call by the name of `function`, and what that returns: LLVM code for it."""
    return intrinsic(function)


def _compiled(function: Any, liberties: frozenset[str]) -> Any:
    function = inspect.unwrap(function)  # without the wrapper of a run-time type checker
    # numpy's error model: 1/0 is inf. Python's would test every division, and stop the vectors
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", fastmath=set(liberties))(function)
    with contextlib.suppress(RuntimeError):  # no folder to write to: compiled in each process
        dispatcher._cache = _Cache(function)  # noqa: SLF001  # what `cache=True` does
    return dispatcher
