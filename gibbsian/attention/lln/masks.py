r"""Masks that an attention of linear cost can honour.

A linear attention sums over keys before it meets a query, so a row may hide keys in two ways only:
keys absent for every query (padding), and keys after the query (causality). Any mask that is the
conjunction of the two is honoured exactly; every other one is refused.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.attention.inputs import AttentionInputs


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearMask:
    r"""Query i sees key j iff `present[j]` and, when causal, $j \le i +$ `causal_offset`."""

    queries: int
    """Number of queries."""
    keys: int
    """Number of keys."""
    present: Bool[Tensor, "batch heads keys"] | None = None
    """Keys that take part; batch and heads may be 1. None = all."""
    causal_offset: int | None = None
    """Position of the first query among the keys, if no query sees the keys after it; else None."""

    @property
    def offset(self) -> int:
        """Position of the first query if no key is absent: without causality, queries are last."""
        return self.keys - self.queries if self.causal_offset is None else self.causal_offset

    def query_ranks(self, *, device: torch.device) -> Int[Tensor, "batch heads queries"]:
        """Which of the present keys each query stands at, counted from 0; -1 = at none.

        Query i stands at the key of its own position, where that is known: causality places the
        queries, and as many queries as keys are the same sequence. Else the queries are the newest,
        and stand at the *last present* keys of their sample: the slots after those (of a cache of
        fixed size, say) are not there yet. Batch and heads may be 1.
        """
        query = torch.arange(self.queries, device=device)
        if self.present is None:
            position = query + self.offset
            inside = (position >= 0) & (position < self.keys)
            return torch.where(inside, position, -1).view(1, 1, -1)
        if self.causal_offset is None and self.queries != self.keys:
            last = self.present.sum(dim=-1, keepdim=True)
            return (last - self.queries + query).clamp_min(-1)
        position = query + self.offset
        inside = (position >= 0) & (position < self.keys)
        position = position.clamp(0, self.keys - 1)
        rank = self.present.cumsum(dim=-1)[..., position] - 1
        return torch.where(inside & self.present[..., position], rank, -1)

    def rows(
        self, start: int, stop: int, *, device: torch.device
    ) -> Bool[Tensor, "batch heads rows keys"]:
        """The dense mask of the queries from `start` to `stop`; batch and heads may be 1."""
        present = self.present
        if present is None:
            present = torch.ones(1, 1, self.keys, dtype=torch.bool, device=device)
        dense = present.unsqueeze(-2).expand(-1, -1, stop - start, -1)
        if self.causal_offset is None:
            return dense
        position = torch.arange(self.keys, device=device)
        last = torch.arange(start, stop, device=device) + self.causal_offset
        return dense & (position <= last.unsqueeze(-1))

    def same_block(
        self, start: int, stop: int, *, block_size: int, device: torch.device
    ) -> Bool[Tensor, "batch heads rows keys"]:
        """Whether query and key lie in the same diagonal block; batch and heads may be 1.

        Blocks are counted over the present keys, so that padding moves none of them. A query is in
        the block of the key at which it stands (`query_ranks`); if there is none, it is in none.
        """
        present = self.present
        if present is None:
            present = torch.ones(1, 1, self.keys, dtype=torch.bool, device=device)
        rank = present.cumsum(dim=-1) - 1
        key_block = torch.where(present, rank.div(block_size, rounding_mode="floor"), -1)
        query_rank = self.query_ranks(device=device)[..., start:stop]
        query_block = query_rank.div(block_size, rounding_mode="floor")
        same = query_block.unsqueeze(-1) == key_block.unsqueeze(-2)
        return same & (query_block >= 0).unsqueeze(-1)

    def present_queries(self) -> Bool[Tensor, "batch heads queries"] | None:
        """Queries that are no padding, where that can be known: their own key is present.

        None = all: no key is absent, or queries and keys are not the same sequence.
        """
        return self.present if self.queries == self.keys else None


def linear_mask(inputs: AttentionInputs) -> LinearMask:
    """Split a call's mask into absent keys and causality, and prove that nothing else is in it.

    A mask with one row for all queries (or an expanded one) costs nothing; a dense one is compared
    with its possible forms, which takes a pass or two over it and a device sync.

    Raises:
        ArgumentError: the mask hides keys in any other way.
    """
    mask, queries, keys = inputs.mask, inputs.query.shape[-2], inputs.key.shape[-2]
    offset = 0 if inputs.is_causal else None
    if mask is None or queries == 0:
        return LinearMask(queries=queries, keys=keys, causal_offset=offset)
    mask = mask.expand(-1, -1, -1, keys)
    present = mask[..., -1, :]
    if mask.shape[-2] > 1 and mask.stride(-2) != 0:
        found = _causal_offset(mask)
        if found is not None:
            offset = found if offset is None else min(found, offset)
        if bool(present.all()):
            return LinearMask(queries=queries, keys=keys, causal_offset=offset)
    return LinearMask(queries=queries, keys=keys, present=present, causal_offset=offset)


def _causal_offset(mask: Tensor) -> int | None:
    """Offset of the causal mask with which `mask` agrees; None if its rows are all equal.

    In either form the last row shows every key that any row shows.
    """
    queries, keys = mask.shape[-2:]
    last_row = mask[..., -1:, :]
    if bool((mask == last_row).all()):
        return None
    # The last query stands at the last key, or at the last that any sample shows it (the slots of
    # a cache of fixed size come after); or the first query stands at the first key.
    shown = last_row.flatten(0, 2).any(dim=0) * torch.arange(1, keys + 1, device=mask.device)
    for offset in dict.fromkeys((keys - queries, int(shown.max()) - queries, 0)):
        causal = torch.ones(queries, keys, dtype=torch.bool, device=mask.device).tril(offset)
        if bool((mask == last_row & causal).all()):
            return offset
    raise ArgumentError(
        "`mask` must be key padding, causal, or both for a linear attention, got one whose rows "
        f"differ in another way (shape {tuple(mask.shape)}). Use softmax or AES attention for "
        "sliding windows, packed sequences and other masks."
    )
