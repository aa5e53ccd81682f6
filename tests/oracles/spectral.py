"""Second eigenvalue and centred singular value of dense stochastic matrices, float64 NumPy."""

import numpy as np


def second_eigenvalue(matrix):
    """Modulus of the second largest eigenvalue of one square matrix, by sorting all of them."""
    moduli = np.sort(np.abs(np.linalg.eigvals(np.asarray(matrix, dtype=np.float64))))[::-1]
    return float(moduli[1]) if moduli.size > 1 else 0.0


def largest_centred_singular_value(matrix):
    """Root of the largest sum of squares of the rows about their mean, by the covariance."""
    rows = np.asarray(matrix, dtype=np.float64)
    centred = rows - rows.mean(axis=0)
    return float(np.sqrt(max(np.linalg.eigvalsh(centred.T @ centred)[-1], 0.0)))


def over_heads(function, matrices, present=None):
    """`function` of every matrix (batch, heads, n, n), on the present positions only."""
    result = np.zeros(matrices.shape[:2])
    for b, h in np.ndindex(*matrices.shape[:2]):
        kept = np.ones(matrices.shape[-1], dtype=bool) if present is None else present[b, h]
        result[b, h] = function(matrices[b, h][np.ix_(kept, kept)])
    return result
