r"""Entmax attention: one sparsity for all rows, or one given for each."""

from typing import Literal, overload

from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from gibbsian._dispatch import Backend
from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask
from gibbsian.attention.base import AttentionArguments, AttentionStatistics
from gibbsian.attention.inputs import AttentionInputs, checked_inputs
from gibbsian.attention.row_statistics import row_statistics
from gibbsian.attention.rows import rows_of
from gibbsian.numerics.masked import working_dtype


@overload
def entmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    zeta: float | Tensor,
    return_statistics: Literal[False] = False,
    **arguments: Unpack[AttentionArguments],
) -> Tensor: ...


@overload
def entmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    zeta: float | Tensor,
    return_statistics: Literal[True],
    **arguments: Unpack[AttentionArguments],
) -> tuple[Tensor, AttentionStatistics]: ...


@overload
def entmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    zeta: float | Tensor,
    return_statistics: bool,
    **arguments: Unpack[AttentionArguments],
) -> Tensor | tuple[Tensor, AttentionStatistics]: ...


def entmax_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    *,
    zeta: float | Tensor,
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
    r"""$o_i = \sum_j \exp_\zeta(x_{ij} - c_i)\, v_j$ with weights that sum to 1.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        value: one a key.
        zeta: sparsity in [0, 1] (0 softmax, 1 sparsemax); a number, or a tensor broadcastable to
            (batch, heads, queries). Differentiable.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        dropout_p: probability with which a weight is dropped (the others are rescaled), in [0, 1).
        enable_gqa: let key_heads divide heads.
        return_statistics: also return `AttentionStatistics`; one more pass over the scores.
        backend: "auto", "reference" (plain torch) or "cpu" (compiled kernels); see
            docs/usage/backends.md.

    Returns:
        The mixed values in the dtype of `query`, 0 for a query that sees no key (with gradient 0);
        with `return_statistics`, also the rows' statistics, detached.

    Raises:
        ArgumentError: inputs that do not fit (`gibbsian.attention.inputs`), zeta out of range or
            not broadcastable.
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        Exact; O(queries keys head_dim) time. The reference is twice differentiable (not in forward
        mode) and keeps the weights for the backward pass, (queries, keys) a head. The CPU kernels
        keep one number a query: memory is linear in the length, and a second derivative is taken
        by the reference.

    References:
        Correia, Niculae & Martins 2019, Adaptively sparse transformers.
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
    row_zeta = _row_sparsity(zeta, inputs)
    output, support_size = rows.mix(row_zeta)
    if not return_statistics:
        return output
    return output, row_statistics(rows.statistics(detach=True), row_zeta, support_size)


def _row_sparsity(zeta: float | Tensor, inputs: AttentionInputs) -> Tensor:
    rows = inputs.query.shape[:-1]
    if not isinstance(zeta, Tensor):
        if not 0.0 <= zeta <= 1.0:
            raise ArgumentError(
                f"`zeta` must lie in [0, 1] (alpha in [1, 2]), got {zeta}. "
                "0 is softmax, 1 is sparsemax."
            )
        return inputs.query.new_full(rows, zeta, dtype=working_dtype(inputs.query))
    try:
        return zeta.expand(rows)
    except RuntimeError:
        raise ArgumentError(
            f"`zeta` must broadcast to (batch, heads, queries) {tuple(rows)}, got "
            f"{tuple(zeta.shape)}. One a head is `zeta[:, None]`."
        ) from None
