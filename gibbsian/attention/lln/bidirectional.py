"""LLN attention where every query sees every key: O(keys head_dim value_dim) time."""

from jaxtyping import Float
from torch import Tensor

from gibbsian.attention.lln.state import LLNState


def bidirectional_lln(
    log_query: Float[Tensor, "batch heads queries head_dim"],
    log_key: Float[Tensor, "batch heads keys head_dim"],
    value: Float[Tensor, "batch heads keys value_dim"],
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Output of $P_{ij} \propto \sum_f e^{a_{if} + b_{jf}}$ over all keys.

    Args:
        log_query: a = query_scale q, float32 or wider.
        log_key: b = key_scale k; -inf in every feature of an absent key.
        value: what is averaged; finite.

    Notes:
        Features are exponentiated relative to their maximum over keys and, for queries, over
        features: the denominator is at least 1 with no epsilon and row sums are exactly 1.

    References: docs/derivations/lln.md#numerics.
    """
    return LLNState.of(log_key, value).read(log_query)
