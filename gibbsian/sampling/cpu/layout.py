"""What each place of the arrays that the kernels share means."""

(
    TEMPERATURE,
    TOP_K,
    TOP_P,
    MIN_P,
    EPSILON,
    ZETA,
    CONFIDENCE,
    TYPICALITY,
    EXPECTED,
    LARGEST,
    LOG_TOTAL,
    HIGHEST,
) = range(12)
NUM_PARAMETERS = 12
"""Columns of the parameters: those of a `Decision` (without a value: 1, inf, inf, 0, 0, -1, 1, 0,
0), the statistics `max_score` and `min_entropy`, and the largest probability as torch rounds it,
which epsilon alone needs."""

SEED, COUNT, FORCED, TOKEN, KEPT, DOUBTFUL = range(6)
NUM_INTEGERS = 6
"""Rows of the integers: the stream's two and the token to insert (-1 = none), then results."""

SURPRISAL, USED_TEMPERATURE, USED_ZETA = range(3)
NUM_NUMBERS = 3
"""Rows of the numbers that are results."""
