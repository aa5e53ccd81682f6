r"""Shannon entropy and support of sparse attention rows, a tile of scores at a time.

The entropy of a sparse row is no linear functional of it, so no attention computes it.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.cpu.layout import (
    ScoreSource,
    problem_of,
    row_numbers,
    score_source,
    scratch,
    tile_scores,
    unit_rows,
)
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.normalizers.cpu.row import (
    SOFTMAX_ZETA,
    candidate_window,
    keep_support,
    list_candidates,
    log_max_prob,
    softmax_in_place,
    valid_zeta,
    write_probs,
)
from gibbsian.numerics.cpu.elementary import log
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.threads import num_workers, run
from gibbsian.statistics.cpu.row import row_maximum

_ZERO, _INFINITY, _NAN = np.float32(0), np.float32(np.inf), np.float32(np.nan)
_TINY = np.float32(np.finfo(np.float32).tiny)
_BLOCK = 1024
"""States summed in float32 before the sum goes on in float64."""


def sparse_entropies(inputs: AttentionInputs, zeta: Tensor) -> tuple[Tensor, Tensor]:
    """Shannon entropy and number of keys with weight, of the rows entmax(scores, zeta).

    Args:
        inputs: on the CPU, float32 or narrower, not empty; values are not looked at.
        zeta: (batch, heads, queries).

    Returns:
        Both (batch, heads, queries), float32; NaN and 0 for a row with a NaN or a zeta outside
        [0, 1].
    """
    query, key = inputs.query, inputs.key
    problem = problem_of(query, key, key, inputs.is_causal, inputs.scale)
    tasks = problem.units * problem.tiles
    workers = num_workers(tasks)
    rows, padded = problem.tile_rows, problem.padded_keys
    found = np.empty((2, problem.units, problem.rows), np.float32)
    run(
        _tile_entropies,
        tasks,
        problem.tiles,
        score_source(problem, query, unit_rows(key, problem.keys, problem.head_dim), inputs.mask),
        row_numbers(zeta, problem),
        found,
        scratch(workers, rows, problem.head_dim),
        scratch(workers, rows, padded),
        scratch(workers, 2, padded),
        np.empty((workers, padded), np.int32),
    )
    entropy, support = torch.from_numpy(found).view(2, *query.shape[:3]).unbind()
    return entropy, support


@kernel
def _tile_entropies(
    task: int,
    worker: int,
    tiles: int,
    source: ScoreSource,
    zetas: Any,
    found: Any,
    scaled: Any,
    scores: Any,
    row_scratch: Any,
    positions: Any,
) -> None:
    unit, tile = task // tiles, task % tiles
    tile_rows = scores.shape[1]
    first = tile * tile_rows
    count = min(tile_rows, source.query.shape[1] - first)
    extent = tile_scores(source, unit, first, count, scaled[worker], scores[worker])
    levels, weights = row_scratch[worker, 0], row_scratch[worker, 1]
    listed = positions[worker]
    for i in range(count):
        row = scores[worker, i]
        given = zetas[unit, first + i]
        zeta = max(given, _ZERO)
        largest = row_maximum(row, extent)
        entropy, support = _ZERO, 0
        if largest == -_INFINITY:
            pass
        elif not (largest < _INFINITY and valid_zeta(given)):
            entropy = _NAN
        elif zeta < SOFTMAX_ZETA:
            support, _ = softmax_in_place(row, extent, largest)
            entropy = _entropy(row, extent)
        else:
            window = candidate_window(zeta, _ZERO)
            candidates = list_candidates(row, extent, largest, window, levels, listed)
            candidates, log_max = log_max_prob(levels, listed, candidates, zeta)
            write_probs(levels, candidates, zeta, log_max, weights)
            support = keep_support(levels, listed, weights, candidates)
            entropy = _entropy(weights, support)
        found[0, unit, first + i] = entropy
        found[1, unit, first + i] = support


@kernel
def _entropy(probs: Any, count: int) -> Any:
    r"""$-\sum p \log p$ of the first `count` probabilities."""
    total = 0.0
    for first in range(0, count, _BLOCK):
        block = probs[first : min(first + _BLOCK, count)]
        some = _ZERO
        for j in range(block.shape[0]):
            p = block[j]
            some -= p * log(max(p, _TINY))
        total += some
    return np.float32(max(total, 0.0))
