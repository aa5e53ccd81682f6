r"""Softmax attention, the baseline: torch's own kernels, with the edge rules of this package."""

from dataclasses import replace
from typing import Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from gibbsian._dispatch import Backend
from gibbsian._typing import Mask
from gibbsian.attention.base import AttentionArguments, AttentionStatistics
from gibbsian.attention.inputs import AttentionInputs, checked_inputs, with_positive_scale
from gibbsian.attention.row_statistics import row_statistics
from gibbsian.attention.rows import rows_of


@overload
def softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    return_statistics: Literal[False] = False,
    **arguments: Unpack[AttentionArguments],
) -> Tensor: ...


@overload
def softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    return_statistics: Literal[True],
    **arguments: Unpack[AttentionArguments],
) -> tuple[Tensor, AttentionStatistics]: ...


@overload
def softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    return_statistics: bool,
    **arguments: Unpack[AttentionArguments],
) -> Tensor | tuple[Tensor, AttentionStatistics]: ...


def softmax_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    *,
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
    r"""$o_i = \sum_j \mathrm{softmax}_j(x_i)\, v_j$ by `scaled_dot_product_attention`.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        value: one a key.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        dropout_p: probability with which a weight is dropped (the others are rescaled), in [0, 1).
        enable_gqa: let key_heads divide heads.
        return_statistics: also return `AttentionStatistics`; one more pass over the keys.
        backend: of the statistics: "auto", "reference" (plain torch, materialises the scores) or
            "cpu" (compiled kernels). The values are always mixed by torch's own kernel.

    Returns:
        The mixed values in the dtype of `query`, 0 for a query that sees no key (with gradient 0);
        with `return_statistics`, also the rows' statistics, detached. Their `support_size` is the
        number of keys: no softmax weight is 0.

    Raises:
        ArgumentError: inputs that do not fit (`gibbsian.attention.inputs`).
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        Time, memory and derivatives are those of torch's kernel. With a mask, O(queries keys)
        more boolean work to find queries without keys.
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
    output = _delegate(inputs)
    if not return_statistics:
        return output
    # before dropout
    statistics = rows_of(replace(inputs, dropout_p=0.0), backend).statistics(detach=True)
    return output, row_statistics(
        statistics, torch.zeros_like(statistics.entropy), statistics.num_states
    )


def _delegate(inputs: AttentionInputs) -> Tensor:
    # torch takes a mask or causality, not both
    mask = None if inputs.mask is None else inputs.full_mask()
    occupied = None
    if mask is not None:
        # torch's kernels differ on rows without keys: let such a row see all, and drop the result
        occupied = mask.any(dim=-1, keepdim=True)
        mask = mask | ~occupied
    query, scale = with_positive_scale(inputs.query, inputs.scale)
    output = torch.nn.functional.scaled_dot_product_attention(
        query,
        inputs.key,
        inputs.value,
        attn_mask=mask,
        dropout_p=inputs.dropout_p,
        is_causal=inputs.is_causal and mask is None,
        scale=scale,
        enable_gqa=inputs.group > 1,
    )
    return output if occupied is None else torch.where(occupied, output, 0.0)
