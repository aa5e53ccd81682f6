"""Matrix products on raw addresses: whole numbers, so that every order of summation is exact."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("numba")

from gibbsian.numerics.cpu.matmul import multiply, pack_transposed
from gibbsian.numerics.cpu.simd import LANES, PANEL, TILE_ROWS

CANARY = np.float32(12345.5)


def whole_numbers(generator, *shape):
    return generator.integers(-8, 9, shape).astype(np.float32)


def padded(matrix, spare):
    """A view of the matrix with `spare` canaries after every row, and the rows around it too."""
    rows, columns = matrix.shape
    room = np.full((rows + 2, columns + spare), CANARY)
    room[1:-1, :columns] = matrix
    return room, room[1:-1, :columns]


@given(
    rows=st.integers(1, 6),
    depth=st.integers(1, 300),
    columns=st.integers(1, 11),
    flags=st.tuples(*[st.booleans()] * 3),
    spare=st.tuples(*[st.integers(0, 3)] * 3),
)
@example(1, 1, 1, (False, True, False), (0, 0, 0))
@example(2, 128, 4, (True, False, True), (1, 2, 3))
@example(2, 129, 5, (False, True, False), (0, 0, 0))
@example(3, 257, 8, (True, True, True), (3, 0, 1))
def test_multiply(rows, depth, columns, flags, spare):
    transposed, packed, accumulate = flags
    rows, columns = rows * TILE_ROWS, columns * LANES
    generator = np.random.default_rng(rows + depth + columns)
    left, right = whole_numbers(generator, rows, depth), whole_numbers(generator, depth, columns)
    before = whole_numbers(generator, rows, columns)
    _, a = padded(left.T if transposed else left, spare[0])
    room, c = padded(before if accumulate else np.full_like(before, np.nan), spare[2])
    strides = (1, a.strides[0] // 4) if transposed else (a.strides[0] // 4, 1)
    if packed:
        b = np.full((-(-columns // PANEL), depth, PANEL), np.nan, np.float32)
        pack_transposed(np.ascontiguousarray(right.T), b)
        b_strides = (depth * PANEL, PANEL)
    else:
        _, b = padded(right, spare[1])
        b_strides = (PANEL, b.strides[0] // 4)
    multiply(
        a.ctypes.data,
        *strides,
        b.ctypes.data,
        *b_strides,
        c.ctypes.data,
        c.strides[0] // 4,
        rows,
        depth,
        columns,
        int(accumulate),
    )
    expected = np.full_like(room, CANARY)
    expected[1:-1, :columns] = left @ right + (before if accumulate else 0)
    np.testing.assert_array_equal(room, expected)


@given(rows=st.integers(1, 3 * PANEL), depth=st.integers(1, 40), more=st.integers(0, 2))
@example(PANEL, 3, 0)
@example(PANEL + 1, 3, 0)
@example(1, 1, 2)
def test_panels(rows, depth, more):
    count = -(-rows // PANEL) + more
    matrix = np.arange(rows * depth, dtype=np.float32).reshape(rows, depth) + 1
    room = np.full((count + 2, depth, PANEL), CANARY)
    pack_transposed(matrix, room[1:-1])
    assert (room[[0, -1]] == CANARY).all()
    joined = room[1:-1].transpose(0, 2, 1).reshape(count * PANEL, depth)
    np.testing.assert_array_equal(joined[:rows], matrix)
    assert (joined[rows:] == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_nan_stays_in_its_row(bad):
    left, right = np.ones((TILE_ROWS, 3), np.float32), np.ones((3, PANEL), np.float32)
    left[1, 2] = bad
    product = np.zeros((TILE_ROWS, PANEL), np.float32)
    multiply(
        left.ctypes.data, 3, 1, right.ctypes.data, PANEL, PANEL, product.ctypes.data, PANEL,
        TILE_ROWS, 3, PANEL, 0,
    )  # fmt: skip
    np.testing.assert_array_equal(product, left @ right)
