r"""Statistics of an attention's rows, without its values."""

from jaxtyping import Float
from torch import Tensor

from gibbsian._dispatch import Backend
from gibbsian._typing import Mask
from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.rows import rows_of
from gibbsian.statistics import GibbsStatistics


def attention_row_statistics(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    backend: Backend = "auto",
) -> GibbsStatistics:
    r"""S, V, log Z and the rest of every query's softmax row.

    $$x_{ij} = \text{scale}\; q_i \cdot k_j, \qquad p_{ij} = e^{x_{ij}}/Z_i$$

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.
        backend: "auto", "reference" (plain torch, holds the scores) or "cpu" (compiled kernels,
            hold a tile of them); see docs/usage/backends.md.

    Returns:
        `GibbsStatistics` with fields (batch, heads, queries), in float32 or wider.

    Raises:
        ArgumentError: inputs that do not fit (`gibbsian.attention.inputs`).
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        Differentiable: the reference to any order, the CPU kernels once. O(queries keys head_dim)
        time; the CPU kernels' memory is linear in the length.

    References:
        docs/derivations/gibbs.md; docs/derivations/aes.md#cpu.
    """
    inputs = checked_inputs(
        query,
        key,
        key,
        mask=mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )
    return rows_of(inputs, backend).statistics(detach=False)
