r"""Blocks of features, as the kernels of LLN multiply them.

Rows of queries, keys and values are read where they lie: a tensor is a flat array of float32 and
the positions of its first number, samples, heads and rows (`Strided`), with contiguous features.
What is multiplied has its columns padded with zeros to a multiple of `LANES` and its rows to one of
`TILE_ROWS`.
"""

from typing import Any

import numpy as np

from gibbsian.attention.lln.cpu.transpose import transpose_square
from gibbsian.numerics.cpu.elementary import exp
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply
from gibbsian.numerics.cpu.simd import LANES, PANEL, TILE_ROWS, maximum

BLOCK = 64
"""Rows handled together: blocks of 64 rows of 64 features stay in the first-level cache."""

BYTES = 4
_ZERO, _ONE = np.float32(0), np.float32(1)
_NO_KEY = np.float32(-np.inf)


@kernel
def padded(size: int) -> int:
    """The next multiple of `LANES`."""
    return (size + LANES - 1) // LANES * LANES


@kernel
def tile_rows(count: int) -> int:
    """The next multiple of `TILE_ROWS`."""
    return (count + TILE_ROWS - 1) // TILE_ROWS * TILE_ROWS


@kernel
def head_start(strides: Any, head: int, heads: int) -> int:
    """Position of the first row of this head; `head` counts through all samples."""
    return head // heads * strides[0] + head % heads * strides[1]


@kernel
def address_of(array: Any, position: int) -> int:
    """Address of a number of a contiguous array.

    Signed, as positions are: signed and unsigned numbers of 64 bits only meet in a float.
    """
    return np.intp(array.ctypes.data) + position * BYTES


@kernel
def take(scratch: Any, start: int, rows: int, columns: int) -> Any:
    """A block of a worker's scratch."""
    return scratch[start : start + rows * columns].reshape(rows, columns)


@kernel
def write_transposed(matrix: Any, rows: int, depth: int, panels: Any) -> None:
    """The transpose of the first `rows` by `depth` numbers, as `multiply` reads its B.

    Column j of it is in panel j // PANEL; columns up to the next multiple of `LANES` are 0.
    """
    pack_rows(matrix.reshape(matrix.size), 0, matrix.shape[1], rows, depth, panels)


@kernel
def pack_rows(rows: Any, start: int, step: int, count: int, width: int, panels: Any) -> None:
    """`write_transposed` of `count` rows where they lie."""
    whole = width // LANES * LANES
    for first in range(0, padded(count), LANES):
        # position of (0, first) of the transpose
        place = first // PANEL * PANEL * width + first % PANEL
        if first + LANES <= count:
            for k in range(0, whole, LANES):
                transpose_square(
                    rows.ctypes.data + (start + first * step + k) * BYTES,
                    step,
                    panels.ctypes.data + (place + k * PANEL) * BYTES,
                    PANEL,
                )
            for r in range(LANES):
                for k in range(whole, width):
                    panels[place + k * PANEL + r] = rows[start + (first + r) * step + k]
        else:
            for r in range(LANES):
                for k in range(width):
                    value = _ZERO
                    if first + r < count:
                        value = rows[start + (first + r) * step + k]
                    panels[place + k * PANEL + r] = value


@kernel
def copy_rows(rows: Any, start: int, step: int, count: int, width: int, block: Any) -> None:
    """The rows in a block of padded columns and tile rows."""
    for r in range(count):
        source, target = rows[start + r * step : start + r * step + width], block[r]
        for c in range(width):
            target[c] = source[c]
        for c in range(width, block.shape[1]):
            target[c] = _ZERO
    clear_rows(block, count)


@kernel
def rows_address(
    rows: Any, start: int, step: int, count: int, width: int, block: Any
) -> tuple[int, int]:
    """Address and row distance of rows that can be multiplied: in place, or copied to `block`."""
    if count % TILE_ROWS == 0 and width % LANES == 0:
        return address_of(rows, start), step
    copy_rows(rows, start, step, count, width, block)
    return address_of(block, 0), block.shape[1]


@kernel
def product_address(output: Any, start: int, count: int, width: int, block: Any) -> int:
    """Address for rows of a product: those of `output` (contiguous) if they fit, else `block`."""
    if count % TILE_ROWS == 0 and width % LANES == 0:
        return address_of(output, start)
    return address_of(block, 0)


@kernel
def keep_product(output: Any, start: int, count: int, width: int, block: Any) -> None:
    """Copies the product from `block` to `output`, if that is where `product_address` put it."""
    if count % TILE_ROWS == 0 and width % LANES == 0:
        return
    for r in range(count):
        source, target = block[r], output[start + r * width : start + (r + 1) * width]
        for c in range(width):
            target[c] = source[c]


@kernel
def key_maximum(
    keys: Any,
    start: int,
    step: int,
    present: Any,
    seen: int,
    first: int,
    stop: int,
    head_dim: int,
    scale: float,
    largest: Any,
) -> None:
    """Raises `largest` to the log features of the present keys from `first` to `stop`.

    Args:
        keys: flat.
        start: position of key 0.
        step: distance of keys.
        present: flat, 0 = absent; empty = all are there.
        seen: position of key 0 in it.
        first: see above.
        stop: see above.
        head_dim: features.
        scale: log features are scale * key.
        largest: -inf where there was no key yet.
    """
    for j in range(first, stop):
        if present.size == 0 or present[seen + j] != 0:
            row = keys[start + j * step : start + j * step + head_dim]
            for f in range(head_dim):
                largest[f] = maximum(largest[f], scale * row[f])


@kernel
def finite_shift(largest: Any, shift: Any) -> None:
    """The maximum as a shift: 0 instead of the -inf of no key."""
    for f in range(largest.size):
        shift[f] = _ZERO if largest[f] == _NO_KEY else largest[f]


@kernel
def write_key_features(
    keys: Any,
    start: int,
    step: int,
    present: Any,
    seen: int,
    first: int,
    count: int,
    head_dim: int,
    scale: float,
    shift: Any,
    features: Any,
) -> None:
    """exp(scale * key - shift) of `count` keys from `first` on; 0 for absent keys and padding."""
    width = features.shape[1]
    for r in range(count):
        j = first + r
        target = features[r]
        if present.size == 0 or present[seen + j] != 0:
            row = keys[start + j * step : start + j * step + head_dim]
            for f in range(head_dim):
                target[f] = exp(scale * row[f] - shift[f])
            for f in range(head_dim, width):
                target[f] = _ZERO
        else:
            for f in range(width):
                target[f] = _ZERO
    clear_rows(features, count)


@kernel
def add_product(
    a: int, a_row: int, a_depth: int, b: int, b_depth: int, depth: int, part: Any, total: Any
) -> None:
    """Adds A B to `total`, `part` being scratch of its shape: see `add_rows`.

    Arguments as those of `multiply`; B is row-major.
    """
    rows, columns = total.shape
    multiply(
        a, a_row, a_depth, b, PANEL, b_depth, part.ctypes.data, columns, rows, depth, columns, 0
    )
    source, target = part.reshape(part.size), total.reshape(total.size)
    for i in range(target.size):
        target[i] += source[i]


@kernel
def add_rows(features: Any, count: int, partial: Any, total: Any) -> None:
    """Adds the sum of `count` rows to `total`, `partial` being scratch.

    A block is summed by itself first: the error of a long sum grows with the number of blocks.
    """
    width = total.size
    for f in range(width):
        partial[f] = _ZERO
    for r in range(count):
        row = features[r]
        for f in range(width):
            partial[f] += row[f]
    for f in range(width):
        total[f] += partial[f]


@kernel
def write_query_row(
    row: Any, scale: float, shift: Any, mass: Any, head_dim: int, target: Any
) -> float:
    """exp(scale * query + shift - its maximum); the largest feature is 1.

    Returns:
        The inverse of their product with the keys' mass, 1 if that is 0.
    """
    top = _NO_KEY
    for f in range(head_dim):
        x = scale * row[f] + shift[f]
        target[f] = x
        top = maximum(top, x)
    total = _ZERO
    for f in range(head_dim):
        x = exp(target[f] - top)
        target[f] = x
        total += x * mass[f]
    for f in range(head_dim, target.size):
        target[f] = _ZERO
    return _ONE if total <= _ZERO else _ONE / total


@kernel
def rescale(row: Any, factor: float) -> None:
    """Multiplies a row."""
    for f in range(row.size):
        row[f] *= factor


@kernel
def mean_slope(features: Any, slopes: Any, mass: Any, inverse: float) -> float:
    """The mean over a query's weights of the gradient in each of them.

    A rounding of it would push all features the same way: what is left of the sum of deviations,
    which is 0, is taken off.
    """
    mean = _ZERO
    for f in range(features.size):
        mean += features[f] * slopes[f]
    mean *= inverse
    rest = _ZERO
    for f in range(features.size):
        rest += features[f] * (slopes[f] - mean * mass[f])
    return mean + inverse * rest


@kernel
def write_query_gradient(
    row: Any,
    features: Any,
    slopes: Any,
    mean: float,
    mass: Any,
    scale: float,
    gradient: Any,
) -> float:
    """Gradient in one query, and (returned) its part of the one in the scale."""
    total = _ZERO
    for f in range(row.size):
        slope = features[f] * (slopes[f] - mean * mass[f])
        gradient[f] = scale * slope
        total += slope * row[f]
    return total


@kernel
def write_key_gradient(
    row: Any, features: Any, slopes: Any, grad_mass: Any, scale: float, gradient: Any
) -> float:
    """Gradient in one key, and (returned) its part of the one in the scale."""
    total = _ZERO
    for f in range(row.size):
        slope = features[f] * (slopes[f] + grad_mass[f])
        gradient[f] = scale * slope
        total += slope * row[f]
    return total


@kernel
def clear_rows(block: Any, count: int) -> None:
    """Sets the rows that fill the last tile to 0."""
    for r in range(count, tile_rows(count)):
        block[r] = _ZERO
