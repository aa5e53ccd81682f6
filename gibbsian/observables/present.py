"""Which positions of a masked attention there are: what a mean over positions may count."""

import torch
from jaxtyping import Bool
from torch import Tensor

from gibbsian.attention.inputs import AttentionInputs


def present_positions(
    inputs: AttentionInputs,
) -> tuple[Bool[Tensor, "batch heads queries"], Bool[Tensor, "batch heads keys"]]:
    """Queries and keys that are not padding.

    A key is present if `mask` lets some query see it, a query if it sees some key and, where there
    are as many queries as keys (one sequence), if its own key is present: the row of a padding
    token exists, but nobody asked for it.
    """
    batch, heads, queries, _ = inputs.query.shape
    keys, mask, device = inputs.key.shape[2], inputs.mask, inputs.query.device
    if mask is None:
        every = torch.ones((), dtype=torch.bool, device=device)
        return every.expand(batch, heads, queries), every.expand(batch, heads, keys)
    key_present = mask.any(dim=-2).expand(batch, heads, keys)
    query_present = mask.any(dim=-1).expand(batch, heads, queries)
    if queries == keys:
        query_present = query_present & key_present
    return query_present, key_present
