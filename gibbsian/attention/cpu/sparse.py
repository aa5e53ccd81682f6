"""A row's few weights against rows of a matrix: gathered, dotted, scattered."""

from typing import Any

import numpy as np

from gibbsian.numerics.cpu.jit import kernel


@kernel
def add_rows(weights: Any, positions: Any, count: int, matrix: Any, onto: Any) -> None:
    """Adds to `onto` the listed rows of `matrix`, each times its weight."""
    columns = onto.shape[0]
    whole = count - count % 4
    for c in range(0, whole, 4):
        w0, w1, w2, w3 = weights[c], weights[c + 1], weights[c + 2], weights[c + 3]
        r0, r1, r2, r3 = positions[c], positions[c + 1], positions[c + 2], positions[c + 3]
        for k in range(columns):
            onto[k] += (
                w0 * matrix[r0, k] + w1 * matrix[r1, k] + w2 * matrix[r2, k] + w3 * matrix[r3, k]
            )
    for c in range(whole, count):
        weight, row = weights[c], positions[c]
        for k in range(columns):
            onto[k] += weight * matrix[row, k]


@kernel
def dot_rows(vector: Any, positions: Any, count: int, matrix: Any, products: Any) -> None:
    """Writes the products of `vector` with the listed rows of `matrix`."""
    columns = vector.shape[0]
    for c in range(count):
        row = positions[c]
        total = np.float32(0)
        for k in range(columns):
            total += vector[k] * matrix[row, k]
        products[c] = total


@kernel
def scatter_rows(weights: Any, positions: Any, count: int, vector: Any, matrix: Any) -> None:
    """Adds `vector` to the listed rows of `matrix`, each times its weight."""
    columns = vector.shape[0]
    for c in range(count):
        weight, row = weights[c], positions[c]
        for k in range(columns):
            matrix[row, k] += weight * vector[k]
