"""What one attention layer is asked to compute, in the conventions of gibbsian's functions."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from gibbsian._errors import UnsupportedModelError
from gibbsian.integrations.transformers.masks import as_boolean

_WITHOUT_EFFECT = frozenset(
    {
        "deterministic",
        "ignore_index",
        "logits_to_keep",
        "num_items_in_batch",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "return_dict",
        "shift_labels",
        "use_cache",
    }
)
"""What models hand through to their attention layers that does not change what a query sees.

Positions that restart (packed sequences) are in the mask already. Everything else either has an
argument of its own in `attention_forward` or is refused: a feature that this package does not know
must not be lost in silence.
"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionCall:
    """The scores of one call: what every attention and every statistic of its rows is made of."""

    module: nn.Module
    """The model's attention layer."""
    query: Tensor
    """(batch, heads, queries, head_dim), as it enters the scores (after rotary positions)."""
    key: Tensor
    """(batch, key_heads, keys, head_dim), the cache included; key_heads divides heads."""
    mask: Tensor | None
    """Boolean, True = may attend; broadcastable to (batch, heads, queries, keys)."""
    is_causal: bool
    """Query i sees keys 0..i; never together with a mask, which contains causality already."""
    scale: float | None
    """Factor of the scores; None = 1/sqrt(head_dim)."""

    def arguments(self) -> dict[str, Any]:
        """`mask`, `is_causal`, `scale` and `enable_gqa`, for any function of query and key."""
        return {
            "mask": self.mask,
            "is_causal": self.is_causal,
            "scale": self.scale,
            "enable_gqa": self.key.shape[1] != self.query.shape[1],
        }

    def first(self, positions: int) -> "AttentionCall":
        """The same among the first positions only, queries and keys."""
        mask = self.mask
        if mask is not None:
            # a dimension of size 1 stays
            mask = mask[:, :, :positions, :positions]
        return replace(
            self,
            query=self.query[:, :, :positions],
            key=self.key[:, :, :positions],
            mask=mask,
        )


def attention_call(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None,
    is_causal: bool | None,
    sliding_window: int | None,
    options: dict[str, Any],
) -> AttentionCall:
    """A call of transformers' AttentionInterface, read.

    Args:
        module: the model's attention layer.
        query: (batch, heads, queries, head_dim).
        key: (batch, key_heads, keys, head_dim), the cache included.
        attention_mask: from `masks.attention_mask`, or as given by the model's caller.
        scaling: factor of the scores; None = 1/sqrt(head_dim).
        is_causal: None = as the module says.
        sliding_window: honoured by the mask.
        options: whatever else the model passes; what would change the result is refused.

    Raises:
        UnsupportedModelError: the model asks for something else than scores and a mask.
    """
    _refuse_unknown(module, options)
    queries, keys = query.shape[2], key.shape[2]
    mask = as_boolean(attention_mask)
    if mask is None and sliding_window is not None and keys > sliding_window:
        raise UnsupportedModelError(
            f"`sliding_window` of {sliding_window} must be in the mask for {keys} keys, but "
            f"{type(module).__name__} got none. Call the whole model, not the layer."
        )
    if is_causal is None:
        is_causal = bool(getattr(module, "is_causal", True))
    # One query is the newest and sees all keys; a mask contains causality already.
    is_causal = is_causal and mask is None and queries > 1
    if is_causal and keys > queries:
        # Filling an empty cache of fixed size: the keys after the last query are not there yet.
        key = key[:, :, :queries]
    return AttentionCall(
        module=module, query=query, key=key, mask=mask, is_causal=is_causal, scale=scaling
    )


def _refuse_unknown(module: nn.Module, options: dict[str, Any]) -> None:
    for name, option in options.items():
        if option is not None and option is not False and name not in _WITHOUT_EFFECT:
            raise UnsupportedModelError(
                f"`{name}` changes the weights in a way that gibbsian cannot honour, and "
                f"{type(module).__name__} passes it. Keep this model's own attention."
            )
