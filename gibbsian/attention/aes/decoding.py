r"""Adaptive attention of a few queries against a long cache of keys."""

from dataclasses import fields
from typing import Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._dispatch import Backend, is_traced
from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask
from gibbsian.attention.aes.certificates import certified_errors
from gibbsian.attention.aes.key_index import KeyIndex
from gibbsian.attention.aes.sparsities import scheduled
from gibbsian.attention.base import AttentionStatistics
from gibbsian.attention.inputs import AttentionInputs, checked_inputs
from gibbsian.attention.row_statistics import row_statistics
from gibbsian.attention.rows import rows_of, runs_compiled
from gibbsian.normalizers import entmax
from gibbsian.normalizers.schedules import Schedule
from gibbsian.statistics import GibbsStatistics, gibbs_statistics


@overload
def aes_decode(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    schedule: Schedule,
    index: KeyIndex | None = None,
    tolerance: float = 0.02,
    mask: Mask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_statistics: Literal[False] = False,
    backend: Backend = "auto",
) -> Tensor: ...


@overload
def aes_decode(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    schedule: Schedule,
    index: KeyIndex | None = None,
    tolerance: float = 0.02,
    mask: Mask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_statistics: Literal[True],
    backend: Backend = "auto",
) -> tuple[Tensor, AttentionStatistics]: ...


@torch.no_grad()
def aes_decode(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    value: Float[Tensor, "batch key_heads keys value_dim"],
    *,
    schedule: Schedule,
    index: KeyIndex | None = None,
    tolerance: float = 0.02,
    mask: Mask | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_statistics: bool = False,
    backend: Backend = "auto",
) -> (
    Float[Tensor, "batch heads queries value_dim"]
    | tuple[Float[Tensor, "batch heads queries value_dim"], AttentionStatistics]
):
    r"""`aes_attention` without gradients, for one query a head or a few, and many keys.

    Args:
        query: scores are scale * query . key; every query sees all keys.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        value: one a key.
        schedule: as in `aes_attention`.
        index: a `KeyIndex` of exactly these keys (under autocast: cast to its dtype). It is read in
            their place; exact keys are read only where one can have weight, and for rows that it
            cannot certify.
        tolerance: with an index, the largest certified error of the entropy and of the square root
            of the varentropy that the schedule is given, nats > 0. At the sparsity found, the
            output is that of the exact scores.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.
        return_statistics: also return `AttentionStatistics`.
        backend: see `gibbsian._dispatch`.

    Returns:
        The mixed values in the dtype of `query` (under autocast: its dtype); with
        `return_statistics`, also the statistics.

    Raises:
        ArgumentError: inputs or sparsities that do not fit, an index of other keys, or one
            where the call is traced, `tolerance` not > 0.
        BackendUnavailableError: `backend="cpu"` cannot run.

    Notes:
        The kernels read all keys once and the values of the support only: about half of what
        softmax attention reads, with an index a quarter. Keys and values are used where they lie
        (any strides with adjacent channels), but for other types than float32, and for keys that a
        mask hides, they are copied in every call. In a graph (`torch.compile`,
        `make_fx`) only without an index.

    References:
        docs/experiments/pruning.md; bounds: `gibbsian.attention.aes.certificates`.
    """
    inputs = checked_inputs(query, key, value, mask=mask, scale=scale, enable_gqa=enable_gqa)
    if index is not None:
        _check_index(index, inputs, tolerance)
    # the bounds of an index are those of float32 products
    with torch.autocast(query.device.type, enabled=False):
        if index is None:
            rows = rows_of(inputs, backend)
            statistics = rows.statistics(detach=True)
            zeta = scheduled(schedule, statistics)
            output, support = rows.mix(zeta)
        elif runs_compiled(inputs, backend):
            output, statistics, zeta, support = _compiled(inputs, schedule, index, tolerance)
        else:
            output, statistics, zeta, support = _with_index(inputs, schedule, index, tolerance)
    output = output.to(inputs.query.dtype)
    if not return_statistics:
        return output
    return output, row_statistics(statistics, zeta, support)


def _check_index(index: KeyIndex, inputs: AttentionInputs, tolerance: float) -> None:
    if is_traced(inputs.query, inputs.key, inputs.value, inputs.mask):
        raise ArgumentError(
            "`index` must be None where a call is traced or a tensor is of a subclass, got a "
            "KeyIndex, whose numbers a graph would keep. Decode with it outside the graph."
        )
    batch, heads, keys, dim = inputs.key.shape
    found = (*index.centre.shape[:2], len(index), index.centre.shape[2])
    if found != (batch, heads, keys, dim):
        raise ArgumentError(
            f"`index` must hold the keys {(batch, heads, keys, dim)}, got an index of {found}. "
            "Append every key to it that the cache gets."
        )
    if not tolerance > 0:
        raise ArgumentError(
            f"`tolerance` must be > 0 (nats), got {tolerance}. For exact statistics leave out "
            "`index`."
        )


_Result = tuple[Tensor, GibbsStatistics, Tensor, Tensor]


def _compiled(
    inputs: AttentionInputs, schedule: Schedule, index: KeyIndex, tolerance: float
) -> _Result:
    # numba takes half a second to import: only where it is used
    from gibbsian.attention.aes.cpu.index_decode import decode_with_index  # noqa: PLC0415

    found = decode_with_index(inputs, schedule, index, tolerance)
    return found.output, found.statistics, found.zeta, found.support


def _with_index(
    inputs: AttentionInputs, schedule: Schedule, index: KeyIndex, tolerance: float
) -> _Result:
    """What the kernels do, in plain torch: the specification, not a fast path."""
    queries = inputs.grouped(inputs.query.float() * inputs.scale)
    near, doubt = (inputs.ungrouped(tensor) for tensor in index.approximate(queries))
    mask = inputs.full_mask()
    if mask is not None:
        near, doubt = near.masked_fill(~mask, -torch.inf), doubt.masked_fill(~mask, 0.0)
    statistics = gibbs_statistics(near)
    zeta = scheduled(schedule, statistics)
    # in float64: a doubt may be tiny, and its square tinier
    probs = (near.double() - statistics.log_partition.double().unsqueeze(-1)).exp()
    error = doubt.double().amax(dim=-1)
    square = (probs * doubt.double().square()).sum(dim=-1)
    errors = certified_errors(statistics.varentropy.double(), square, error)
    certain = (errors[0] <= tolerance) & (errors[1] <= tolerance) & (zeta > 0)
    # a key head's queries are read together, exactly where one of them must
    by_owner = certain.unflatten(1, (inputs.key.shape[1], inputs.group))
    by_owner = by_owner.all(dim=2, keepdim=True).all(dim=-1, keepdim=True)
    certain = by_owner.expand(-1, -1, inputs.group, certain.shape[-1]).flatten(1, 2)
    exact = inputs.scores()
    whole = gibbs_statistics(exact)
    names = [field.name for field in fields(whole)]
    found = GibbsStatistics(
        **{n: torch.where(certain, getattr(statistics, n), getattr(whole, n)) for n in names}
    )
    zeta = scheduled(schedule, found)
    # the true maximum may lie lower, and a true score higher, by the error each
    lowest = found.max_score - 1 / zeta - 2 * error
    candidate = (near > lowest.unsqueeze(-1)) | ~certain.unsqueeze(-1)
    kept = exact.masked_fill(~candidate, -torch.inf)
    weights = entmax(kept, zeta.unsqueeze(-1), backend="reference")
    return inputs.mix(weights), found, zeta, (weights > 0).sum(dim=-1)
