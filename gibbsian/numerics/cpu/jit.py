"""How every kernel is compiled: without the interpreter's lock, and kept on disk."""

import hashlib
import inspect
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

SUMS = frozenset({"contract", "reassoc", "nsz", "arcp"})
"""Floating-point liberties of a kernel: sums in any order, as vectors take them. NaN and the
infinities keep their meaning."""

EXACT = frozenset({"contract"})
"""For arithmetic whose order matters (rounding tricks, polynomials): only multiply-adds fuse."""


def _digest_of_sources() -> str:
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(root.glob("**/cpu/*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_SOURCES = _digest_of_sources()


class _Cache(FunctionCache):
    """numba looks at the file of a function only; a kernel is made of functions of several."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), _SOURCES)


def kernel(function: Any) -> Any:
    """Compile on first call; the machine code is cached beside the source, or in the user's cache.

    A kernel releases the interpreter's lock and knows nothing of Python objects.
    """
    return _compiled(function, SUMS)


def exact(function: Any) -> Any:
    """Like `kernel`, for a helper whose operations may not be reordered."""
    return _compiled(function, EXACT)


def instruction(function: Any) -> Any:
    """What kernels call by the name of `function`, and what that returns: LLVM code for it."""
    return intrinsic(function)


def _compiled(function: Any, liberties: frozenset[str]) -> Any:
    function = inspect.unwrap(function)  # without the wrapper of a run-time type checker
    # numpy's error model: 1/0 is inf. Python's would test every division, and stop the vectors
    options = {"nogil": True, "error_model": "numpy", "fastmath": set(liberties)}
    dispatcher = numba.njit(**options)(function)
    dispatcher._cache = _Cache(function)  # noqa: SLF001  # what `cache=True` does
    return dispatcher
