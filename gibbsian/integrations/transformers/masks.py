"""The mask that a model hands to its attention layers.

transformers builds masks by implementation: one that registers an attention without a mask function
gets no mask, so that padding, sliding windows and packed sequences would be lost in silence.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import bidirectional_mask_function, sdpa_mask

from gibbsian._errors import UnsupportedModelError


def attention_mask(**options: Any) -> Tensor | None:
    """Boolean mask, True = may attend, broadcastable to (batch, heads, queries, keys).

    Args:
        **options: what transformers passes to every mask function: lengths, offsets, the padding
            mask and `mask_function`, which knows causality, windows, chunks and packed sequences.

    Returns:
        None where the layer's causality says it all; (batch, 1, 1, keys) where only padding has to
        be masked, which costs a linear attention no quadratic tensor; else
        (batch, 1, queries, keys).
    """
    mask: Tensor | None
    only_padding = (
        options["mask_function"] is bidirectional_mask_function
        # Else the model goes on to combine the mask with another one of full size.
        and options.get("allow_is_bidirectional_skip", False)
        and options["attention_mask"] is not None
    )
    if not only_padding:
        mask = sdpa_mask(**options)
        return mask
    # One query stands for all: which keys it sees depends on the padding alone.
    mask = sdpa_mask(**{**options, "q_length": 1})
    return mask


def as_boolean(mask: Tensor | None) -> Tensor | None:
    """A mask given by the caller of a model in the additive form (0 and a huge negative number).

    Raises:
        UnsupportedModelError: not four-dimensional, or it holds biases instead of 0 or -inf.
    """
    if mask is None:
        return None
    if mask.dim() != 4:
        raise UnsupportedModelError(
            "`attention_mask` must reach the attention layers with 4 dimensions (batch, heads, "
            f"queries, keys), got {tuple(mask.shape)}. This model builds masks of its own."
        )
    if mask.dtype == torch.bool:
        return mask
    if not mask.is_floating_point():
        return mask != 0
    hidden = mask <= torch.finfo(mask.dtype).min / 2
    if not bool((hidden | (mask == 0)).all()):
        raise UnsupportedModelError(
            "`attention_mask` must be boolean, or hold 0 and -inf (or the dtype's minimum) only, "
            f"got {mask[~hidden & (mask != 0)][0].item():g}. To hide keys, give a boolean mask or "
            "-inf; biases added to the scores (relative positions, ALiBi) cannot be honoured."
        )
    return ~hidden
