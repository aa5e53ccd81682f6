r"""LLN and LLN+Diag attention with the conventions of `scaled_dot_product_attention`."""

from typing import Literal, overload

from jaxtyping import Float
from torch import Tensor
from typing_extensions import Unpack

from gibbsian._dispatch import Backend
from gibbsian._typing import Mask
from gibbsian.attention.base import AttentionArguments, AttentionStatistics
from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.lln.forms import attend, block_obstacles, check_block_size
from gibbsian.attention.lln.inputs import LLNInputs
from gibbsian.attention.lln.scales import default_scales


@overload
def lln_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_scale: float | Tensor | None = None,
    key_scale: float | Tensor | None = None,
    return_statistics: Literal[False] = False,
    **arguments: Unpack[AttentionArguments],
) -> Tensor: ...


@overload
def lln_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_scale: float | Tensor | None = None,
    key_scale: float | Tensor | None = None,
    return_statistics: bool,
    **arguments: Unpack[AttentionArguments],
) -> Tensor | tuple[Tensor, AttentionStatistics]: ...


def lln_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    *,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    enable_gqa: bool = False,
    query_scale: float | Tensor | None = None,
    key_scale: float | Tensor | None = None,
    return_statistics: bool = False,
    backend: Backend = "auto",
) -> (
    Float[Tensor, "batch heads queries value_dim"]
    | tuple[Float[Tensor, "batch heads queries value_dim"], AttentionStatistics]
):
    r"""Linear log-normal attention, in time and memory linear in the length.

    $$o_i = \sum_j P_{ij} v_j, \qquad
    P_{ij} \propto \sum_f e^{\alpha q_{if}} e^{\beta k_{jf}}$$

    Args:
        query: its elements times query_scale are the exponents.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        value: one a key.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys). It must be key
            padding (rows all equal), causal, or both.
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the softmax scores that are imitated; None = 1/sqrt(head_dim). Another one
            acts as if the queries were multiplied by scale * sqrt(head_dim).
        dropout_p: probability with which a key is dropped from the sums of its head for all queries
            at once (the others are rescaled; denominators stay), in [0, 1). A weight alone cannot
            be dropped from a sum that is never written out.
        enable_gqa: let key_heads divide heads.
        query_scale: $\alpha$, a number or a tensor broadcastable to (batch, heads).
        key_scale: $\beta$, the same. With neither scale given both are matched: without causality
            to the variances of each sample and head over its visible positions, with it to
            variance 1, so that no row depends on later positions. Modules keep running variances.
        return_statistics: also return `AttentionStatistics`, in O(queries keys head_dim) time.
        backend: "auto" (the fastest that can run), "reference" (plain torch) or "cpu" (compiled
            kernels, for float32 and narrower).

    Returns:
        The mixed values in the dtype of `query`, 0 for a query that sees no key; with
        `return_statistics`, also the rows' statistics, detached. zeta is 0, and the support is
        every visible key.

    Raises:
        ArgumentError: inputs that do not fit (`gibbsian.attention.inputs`), a mask with no linear
            form, or one scale without the other.
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        Computed in float32 or wider. Every denominator is at least 1 without an epsilon. O(N
        head_dim value_dim) time, O(N head_dim) memory. Differentiable to second order; the second
        derivative is taken by the reference. With causality the CPU kernels have one task a head:
        batch times heads bounds the threads that they use.

    References:
        Nahshan, Kampeas & Haleva, arXiv 2311.13541v4, (8)-(11); docs/derivations/lln.md.
    """
    inputs = LLNInputs.of(
        checked_inputs(
            query,
            key,
            value,
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            dropout_p=dropout_p,
            enable_gqa=enable_gqa,
        ),
        backend=backend,
    )
    return attend(
        inputs,
        default_scales(inputs, query_scale, key_scale),
        return_statistics=return_statistics,
    )


@overload
def lln_diag_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_scale: float | Tensor | None = None,
    key_scale: float | Tensor | None = None,
    block_size: int = 64,
    return_statistics: Literal[False] = False,
    **arguments: Unpack[AttentionArguments],
) -> Tensor: ...


@overload
def lln_diag_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_scale: float | Tensor | None = None,
    key_scale: float | Tensor | None = None,
    block_size: int = 64,
    return_statistics: bool,
    **arguments: Unpack[AttentionArguments],
) -> Tensor | tuple[Tensor, AttentionStatistics]: ...


def lln_diag_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    *,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    enable_gqa: bool = False,
    query_scale: float | Tensor | None = None,
    key_scale: float | Tensor | None = None,
    block_size: int = 64,
    return_statistics: bool = False,
    backend: Backend = "auto",
) -> (
    Float[Tensor, "batch heads queries value_dim"]
    | tuple[Float[Tensor, "batch heads queries value_dim"], AttentionStatistics]
):
    r"""The mean of LLN attention and of softmax attention within diagonal blocks.

    $$P = \tfrac12 \bigl(P^{LLN} + P^{diag}\bigr)$$

    LLN carries the long range, the blocks the short one. Arguments, results and errors are those of
    `lln_attention`, and

    Args:
        query: scores of the blocks are scale * query . key.
        key: as there.
        value: as there.
        mask: as there.
        is_causal: as there; blocks are then causal too.
        scale: as there, and the factor of the blocks' scores.
        dropout_p: as there; both halves drop the same keys.
        enable_gqa: as there.
        query_scale: as there.
        key_scale: as there.
        block_size: keys in a block, >= 1. Blocks are counted over present keys; the last is ragged.
        return_statistics: as there, of the mean.
        backend: as there; the CPU kernels take blocks of up to 1024 keys.

    Returns:
        The mixed values. A query that stands at no present key (padding, or more queries than keys)
        is in no block, and has LLN's row alone.

    Notes:
        Queries and keys are meant to be one sequence. Causality places the queries among the keys,
        and as many queries as keys stand at their own positions. Any other number of queries are
        taken for the newest: the last of them stands at the last *present* key of its sample, as
        in decoding. Between two sequences (cross attention) diagonal blocks mean nothing: use
        `lln_attention` there.

    References:
        Nahshan, Kampeas & Haleva, arXiv 2311.13541v4, section 4.2 and figure 3.
    """
    check_block_size(block_size)
    inputs = LLNInputs.of(
        checked_inputs(
            query,
            key,
            value,
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            dropout_p=dropout_p,
            enable_gqa=enable_gqa,
        ),
        backend=backend,
        obstacles=block_obstacles(block_size),
    )
    return attend(
        inputs,
        default_scales(inputs, query_scale, key_scale),
        block_size=block_size,
        return_statistics=return_statistics,
    )
