r"""One row of logits to one token: the pool, and the draw.

Which token a uniform number falls on is a comparison of numbers that torch has rounded in its way.
Here they are rounded in another, so it counts only where it clears a margin that covers both. A row
in which a comparison does not is *doubtful*, and the reference takes it: so tokens and pools are
the reference's, bit for bit.

Margins: docs/derivations/sampling.md#margins.
"""

from typing import Any

import numpy as np

from gibbsian.numerics.cpu.jit import kernel, strict
from gibbsian.sampling.cpu.layout import (
    CONFIDENCE,
    COUNT,
    DOUBTFUL,
    EXPECTED,
    FORCED,
    KEPT,
    LARGEST,
    LOG_TOTAL,
    SEED,
    SURPRISAL,
    TEMPERATURE,
    TOKEN,
    TYPICALITY,
    USED_TEMPERATURE,
    USED_ZETA,
    ZETA,
)
from gibbsian.sampling.cpu.pool import row_pool

BLOCK = 256
"""Tokens whose weights are one term of the cumulative distribution's first level."""

DRAW_MARGIN = 3e-5
"""What two ways to compute a cumulative probability x differ by at most, over x (1 - x)."""

_SLACK = 1e-12
"""For the float64 sums themselves."""
_ABSENT = np.float32(-np.inf)
_ZERO = np.float32(0)


@kernel
def take_task(
    task: int,
    worker: int,
    rows_a_task: int,
    scores: Any,
    parameters: Any,
    integers: Any,
    numbers: Any,
    uniform: Any,
    own_stream: bool,
    filtered: Any,
    scratch: Any,
    positions: Any,
    sums: Any,
) -> None:
    """A token of each of a task's rows.

    Args:
        task: which rows.
        worker: which part of the scratch space is free.
        rows_a_task: how many.
        scores: (rows, states).
        parameters: (rows, `NUM_PARAMETERS`).
        integers: (`NUM_INTEGERS`, rows).
        numbers: (`NUM_NUMBERS`, rows).
        uniform: (rows, draws), of which each row takes the best draw; filled in if `own_stream`.
        own_stream: whether the numbers are to be those of the rows' own streams.
        filtered: receives the tempered scores of the pool; (0, 0) = nobody asks for them.
        scratch: (workers, 4, states rounded up to `KEY_BLOCK`).
        positions: (workers, the same).
        sums: (workers, blocks of `BLOCK`).
    """
    count, states = scores.shape
    for i in range(task * rows_a_task, min(count, (task + 1) * rows_a_task)):
        if own_stream:
            for draw in range(uniform.shape[1]):
                uniform[i, draw] = _uniform(integers[SEED, i], integers[COUNT, i], draw)
        given = parameters[i]
        numbers[USED_TEMPERATURE, i] = given[TEMPERATURE]
        numbers[USED_ZETA, i] = max(given[ZETA], 0.0)
        space, places = scratch[worker], positions[worker]
        if integers[FORCED, i] >= 0:
            token, kept, sure = integers[FORCED, i], 1, True
            if filtered.shape[0] > 0:
                filtered[i] = _ABSENT
                filtered[i, token] = scores[i, token]
        else:
            target = filtered[i] if filtered.shape[0] > 0 else space[2, :0]
            kept, sure = row_pool(scores[i], states, given, space, places, target)
            token = 0
            if sure and uniform.shape[1] > 0:
                token, sure = _draw(scores[i], states, given, uniform[i], space[3], sums[worker])
        integers[TOKEN, i] = token
        integers[KEPT, i] = kept
        integers[DOUBTFUL, i] = 0 if sure else 1
        numbers[SURPRISAL, i] = _surprisal(scores[i, token], given)


@kernel
def _draw(
    scores: Any, states: int, given: Any, uniform: Any, weights: Any, sums: Any
) -> tuple[int, bool]:
    """The best of the tokens at the given points of the cumulative distribution of the weights."""
    total = 0.0
    blocks = -(-states // BLOCK)
    for b in range(blocks):
        some = 0.0
        for j in range(b * BLOCK, min(states, (b + 1) * BLOCK)):
            some += np.float64(weights[j])
        sums[b] = some
        total += some
    best, highest, sure = 0, np.float32(-np.inf), True
    for d in range(uniform.shape[0]):
        token, clear = _at(uniform[d], states, weights, sums, total)
        log_prob = -_surprisal(scores[token], given)
        score = _score(
            log_prob,
            np.float32(given[CONFIDENCE]),
            np.float32(given[TYPICALITY]),
            np.float32(given[EXPECTED]),
        )
        sure = sure and clear and not np.isnan(score)
        if d == 0 or score > highest:
            best, highest = token, score
    return best, sure


@kernel
def _at(u: float, states: int, weights: Any, sums: Any, total: float) -> tuple[int, bool]:
    """The token at a point of the cumulative distribution, and whether it clears its neighbours."""
    point = u * total
    under, b = 0.0, 0
    while b < sums.shape[0] - 1 and under + sums[b] <= point:
        under += sums[b]
        b += 1
    margin = (DRAW_MARGIN * u * (1.0 - u) + _SLACK) * total
    for j in range(b * BLOCK, min(states, (b + 1) * BLOCK)):
        over = under + weights[j]
        if over > point:
            return j, point - under > margin and over - point > margin
        under = over
    return 0, False


@strict
def _surprisal(score: Any, given: Any) -> Any:
    log_partition = np.float32(given[LARGEST]) + np.float32(given[LOG_TOTAL])
    return max(log_partition - score, _ZERO)


@strict
def _score(log_prob: Any, confidence: Any, typicality: Any, expected: Any) -> Any:
    return confidence * log_prob - typicality * abs(-log_prob - expected)


@kernel
def _uniform(seed: int, step: int, draw: int) -> float:
    """The number of `gibbsian.sampling.stream`."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    counter = np.uint64(step + 1) * golden + np.uint64(draw) * np.uint64(0xD1B54A32D192ED03)
    word = _mixed(np.uint64(seed) * golden + _mixed(counter))
    return np.float64(word >> np.uint64(11)) * 2.0**-53


@kernel
def _mixed(word: int) -> Any:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
