r"""Adaptive entropy sparsity, written as its equations.

$$x_i = \text{scale}\; K q_i, \qquad \zeta_i = \zeta(S_i, V_i), \qquad
  p_{ij} = \exp_{\zeta_i}(x_{ij} - c_i), \qquad o_i = \sum_j p_{ij} v_j.$$

Derivations and gradients: docs/derivations/aes.md.
"""

from typing import Literal, overload

from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from gibbsian._dispatch import Backend
from gibbsian._typing import Mask
from gibbsian.attention.aes.sparsities import scheduled
from gibbsian.attention.base import AttentionArguments, AttentionStatistics
from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.row_statistics import row_statistics
from gibbsian.attention.rows import rows_of
from gibbsian.normalizers.schedules import Schedule


@overload
def aes_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    schedule: Schedule,
    detach_statistics: bool = False,
    return_statistics: Literal[False] = False,
    **arguments: Unpack[AttentionArguments],
) -> Tensor: ...


@overload
def aes_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    schedule: Schedule,
    detach_statistics: bool = False,
    return_statistics: Literal[True],
    **arguments: Unpack[AttentionArguments],
) -> tuple[Tensor, AttentionStatistics]: ...


@overload
def aes_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    schedule: Schedule,
    detach_statistics: bool = False,
    return_statistics: bool,
    **arguments: Unpack[AttentionArguments],
) -> Tensor | tuple[Tensor, AttentionStatistics]: ...


def aes_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    *,
    schedule: Schedule,
    detach_statistics: bool = False,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    enable_gqa: bool = False,
    return_statistics: bool = False,
    backend: Backend = "auto",
) -> (
    Float[Tensor, "batch heads queries value_dim"]
    | tuple[Float[Tensor, "batch heads queries value_dim"], AttentionStatistics]
):
    r"""Attention whose every row chooses its sparsity from its own entropy and varentropy.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        value: one a key.
        schedule: maps the rows' `GibbsStatistics`, each (batch, heads, queries), to sparsities in
            [0, 1] of that shape. `Constant(zeta=0)` gives softmax attention.
        detach_statistics: take the statistics as constants in the backward pass: gradients still
            reach the schedule's parameters and, through p at that zeta, the scores, but not the
            scores through S and V. Cheaper, and the gradient of a score off the support is 0.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        dropout_p: probability with which a weight is dropped (the others are rescaled), in [0, 1).
        enable_gqa: let key_heads divide heads.
        return_statistics: also return `AttentionStatistics`.
        backend: "auto", "reference" (plain torch) or "cpu" (compiled kernels); see
            docs/usage/backends.md.

    Returns:
        The mixed values in the dtype of `query`, 0 for a query that sees no key (with gradient 0);
        with `return_statistics`, also the rows' statistics, detached.

    Raises:
        ArgumentError: inputs that do not fit (`gibbsian.attention.inputs`), or a schedule whose
            sparsities do not have the shape of the rows.
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        Exact; O(queries keys head_dim) time. The reference is twice differentiable (not in forward
        mode) and keeps the weights for the backward pass, (queries, keys) a head, and without
        `detach_statistics` the scores too. The CPU kernels keep a few numbers a query:
        memory is linear in the length; a second derivative is taken by the reference; with
        `detach_statistics` their backward pass costs in proportion to the support, beyond computing
        the scores again.

    References:
        docs/derivations/aes.md
    """
    inputs = checked_inputs(
        query,
        key,
        value,
        mask=mask,
        is_causal=is_causal,
        scale=scale,
        dropout_p=dropout_p,
        enable_gqa=enable_gqa,
    )
    rows = rows_of(inputs, backend)
    statistics = rows.statistics(detach=detach_statistics)
    zeta = scheduled(schedule, statistics)
    output, support_size = rows.mix(zeta)
    if not return_statistics:
        return output
    return output, row_statistics(statistics, zeta, support_size)
