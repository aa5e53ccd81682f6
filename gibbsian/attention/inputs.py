r"""The conventions that every attention shares, checked once.

Those of `torch.nn.functional.scaled_dot_product_attention`: layout (batch, heads, queries,
head_dim), True = may attend, causality aligned at the top left, grouped queries by consecutive
heads. Two of them are widened: `mask` and `is_causal` may be given together (both must allow a
key), and a query without any key yields 0.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.numerics.masked import working_dtype


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionInputs:
    """Checked inputs of one call, in one dtype and on one device."""

    query: Tensor
    """(batch, heads, queries, head_dim)."""
    key: Tensor
    """(batch, key_heads, keys, head_dim); key_heads divides heads."""
    value: Tensor
    """(batch, key_heads, keys, value_dim)."""
    mask: Tensor | None
    """Boolean with four dimensions, broadcastable to (batch, heads, queries, keys); without
    causality."""
    is_causal: bool
    """Query i sees keys 0..i."""
    scale: float
    """Factor of the scores."""
    dropout_p: float
    """Probability with which a weight is dropped, in [0, 1)."""

    @property
    def group(self) -> int:
        """How many query heads share a key head."""
        key_heads = self.key.shape[1]
        return self.query.shape[1] // key_heads if key_heads else 1

    def full_mask(self) -> Tensor | None:
        """`mask` and causality together; broadcastable to (batch, heads, queries, keys)."""
        if not self.is_causal:
            return self.mask
        causal = causal_mask(self.query.shape[-2], self.key.shape[-2], self.query.device)
        return causal if self.mask is None else self.mask & causal

    def scores(self) -> Tensor:
        r"""$x_{ij} = \text{scale}\; q_i \cdot k_j$, -inf where query i may not attend to key j.

        Returns:
            (batch, heads, queries, keys), in float32 or wider: rounded to bfloat16, a score of 20
            would be off by 0.06.
        """
        dtype = working_dtype(self.query)
        with torch.autocast(self.query.device.type, enabled=False):
            query, key = self.query.to(dtype) * self.scale, self.key.to(dtype)
            scores = self.ungrouped(self.grouped(query) @ key.transpose(-2, -1))
        mask = self.full_mask()
        return scores if mask is None else scores.masked_fill(~mask, -torch.inf)

    def mix(self, weights: Tensor) -> Tensor:
        """Weighted sums of the values after dropout, (batch, heads, queries, value_dim)."""
        if self.dropout_p > 0:
            weights = torch.dropout(weights, self.dropout_p, True)
        return self.ungrouped(self.grouped(weights.to(self.value.dtype)) @ self.value)

    def grouped(self, per_head: Tensor) -> Tensor:
        """(batch, heads, queries, x) -> (batch, key_heads, group * queries, x), without a copy.

        A key head then meets all the queries that it serves in one product, and neither keys nor
        values are repeated.
        """
        if self.group == 1:
            return per_head
        batch, heads, queries, last = per_head.shape
        return per_head.reshape(batch, heads // self.group, self.group * queries, last)

    def ungrouped(self, per_key_head: Tensor) -> Tensor:
        """Inverse of `grouped`."""
        if self.group == 1:
            return per_key_head
        batch, key_heads, rows, last = per_key_head.shape
        return per_key_head.reshape(batch, key_heads * self.group, rows // self.group, last)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(queries, keys) boolean; query i sees keys 0..i, whatever the two lengths."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril()


def checked_inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout_p: float = 0.0,
    enable_gqa: bool = False,
) -> AttentionInputs:
    """The inputs of an attention, checked and completed with defaults.

    Keys and values that `mask` denies to every query of their head are replaced by 0: they are
    absent, and a NaN in them (the padding of an uninitialised cache) must not survive as 0 * NaN.
    A NaN in a key that some queries do see is the caller's, and may reach every row of that head.

    Inside `torch.autocast` the three are cast as `scaled_dot_product_attention` does.

    Raises:
        ArgumentError: shapes, dtypes or devices that do not fit, or `dropout_p` outside [0, 1).
    """
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.dim() != 4:
            raise ArgumentError(
                f"`{name}` must have 4 dimensions (batch, heads, length, head_dim), got shape "
                f"{tuple(tensor.shape)}. Add the missing ones with `.unsqueeze(0)`."
            )
    if not 0.0 <= dropout_p < 1.0:
        raise ArgumentError(
            f"`dropout_p` must lie in [0, 1), got {dropout_p}. Give 0 in evaluation."
        )
    query, key, value = _one_dtype(query, key, value)
    _check_shapes(query, key, value, enable_gqa)
    if mask is not None:
        mask = _checked_mask(mask, query, key)
        key, value = _without_absent_keys(mask, query, key, value)
    return AttentionInputs(
        query=query,
        key=key,
        value=value,
        mask=mask,
        is_causal=is_causal,
        scale=1.0 / math.sqrt(query.shape[-1]) if scale is None else scale,
        dropout_p=dropout_p,
    )


def _one_dtype(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    for name, tensor in (("key", key), ("value", value)):
        if tensor.device != query.device:
            raise ArgumentError(
                f"`{name}` must be on the device of `query` ({query.device}), got "
                f"{tensor.device}. Move it with `.to(query.device)`."
            )
    device = query.device.type
    if torch.is_autocast_enabled(device) and query.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if not query.is_floating_point():
        raise ArgumentError(
            f"`query` must be a floating-point tensor, got {query.dtype}. Convert with `.float()`."
        )
    for name, tensor in (("key", key), ("value", value)):
        if tensor.dtype != query.dtype:
            raise ArgumentError(
                f"`{name}` must have the dtype of `query` ({query.dtype}), got {tensor.dtype}. "
                "Convert it with `.to(query.dtype)`."
            )
    return query, key, value


def _check_shapes(query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool) -> None:
    batch, heads, _, head_dim = query.shape
    key_batch, key_heads, keys, key_dim = key.shape
    if head_dim == 0 or key_dim != head_dim:
        raise ArgumentError(
            f"`query` and `key` must have the same head_dim > 0, got {head_dim} and {key_dim}. "
            "Project both to one size."
        )
    if value.shape[:3] != key.shape[:3]:
        raise ArgumentError(
            "`value` must have the batch, heads and length of `key` "
            f"{(key_batch, key_heads, keys)}, got {tuple(value.shape[:3])}. "
            "Each key comes with one value."
        )
    if key_batch != batch:
        raise ArgumentError(
            f"`key` must have the batch size of `query` ({batch}), got {key_batch}. "
            "Repeat a shared one with `.expand`."
        )
    if enable_gqa:
        if key_heads == 0 or heads % key_heads:
            raise ArgumentError(
                f"`key` must have a number of heads that divides `query`'s ({heads}), got "
                f"{key_heads}. Each key head serves heads/key_heads query heads."
            )
    elif key_heads != heads:
        raise ArgumentError(
            f"`key` must have the heads of `query` ({heads}), got {key_heads}. "
            "Pass `enable_gqa=True` for grouped queries."
        )


def with_positive_scale(query: Tensor, scale: float) -> tuple[Tensor, float]:
    """Queries and scale for torch's fused kernels, which return NaN if causal and scale <= 0."""
    if scale > 0:
        return query, scale
    return (query * 0.0, 1.0) if scale == 0 else (-query, -scale)


def _checked_mask(mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        raise ArgumentError(
            f"`mask` must be boolean with True = may attend, got {mask.dtype}. "
            "Of an additive mask pass `mask == 0`."
        )
    if mask.device != query.device:
        raise ArgumentError(
            f"`mask` must be on the device of `query` ({query.device}), got {mask.device}. "
            "Move it with `.to(query.device)`."
        )
    full = (*query.shape[:3], key.shape[2])
    fits = mask.dim() <= 4 and all(
        size in (1, wanted)
        for size, wanted in zip(reversed(mask.shape), reversed(full), strict=False)
    )
    if not fits:
        raise ArgumentError(
            "`mask` must broadcast to (batch, heads, queries, keys) "
            f"{full}, got {tuple(mask.shape)}. A padding mask (batch, keys) becomes "
            "`mask[:, None, None, :]`."
        )
    return mask.reshape((1,) * (4 - mask.dim()) + tuple(mask.shape))


def _without_absent_keys(
    mask: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    seen = mask.any(dim=-2)
    if seen.shape[1] > 1:
        # a key head is absent when it is so for all the query heads that it serves
        seen = seen.unflatten(1, (key.shape[1], query.shape[1] // key.shape[1])).any(dim=2)
    seen = seen.unsqueeze(-1)
    return torch.where(seen, key, 0.0), torch.where(seen, value, 0.0)
