"""How every kernel is compiled: without the interpreter's lock, and kept on disk."""

from typing import Any

import numba
from numba.extending import intrinsic

SUMS = frozenset({"contract", "reassoc", "nsz", "arcp"})
"""Floating-point liberties of a kernel: sums in any order, as vectors take them. NaN and the
infinities keep their meaning."""

EXACT = frozenset({"contract"})
"""For arithmetic whose order matters (rounding tricks, polynomials): only multiply-adds fuse."""


def kernel(function: Any) -> Any:
    """Compile on first call; the machine code is cached beside the source, or in the user's cache.

    A kernel releases the interpreter's lock and knows nothing of Python objects.
    """
    return numba.njit(nogil=True, cache=True, fastmath=set(SUMS))(function)


def exact(function: Any) -> Any:
    """Like `kernel`, for a helper whose operations may not be reordered."""
    return numba.njit(nogil=True, cache=True, fastmath=set(EXACT))(function)


def instruction(function: Any) -> Any:
    """What kernels call by the name of `function`, and what that returns: LLVM code for it."""
    return intrinsic(function)
