"""Queries and keys to prune: drawn at random, or those of pretrained models reading a novel."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

HEAD_DIM = 64
DECODED = 16
"""Rows of a head that decoding is measured on: the last positions, 8 apart."""
TILES, TILE = 4, 64
"""Rows of a head that prefill is measured on: so many runs of so many queries."""
_RECORDER = "gibbsian_recorder"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Head:
    """Keys, and all the queries that meet them."""

    name: str
    """Layer and head, or seed."""
    keys: Float[Tensor, "keys head_dim"]
    """In order of position."""
    queries: Float[Tensor, "query_heads keys head_dim"]
    """One a position and query head, times the scale of the scores."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """Attention rows over one set of keys."""

    head: str
    """Where they come from."""
    keys: Float[Tensor, "keys head_dim"]
    """All keys of the index."""
    queries: Float[Tensor, "rows head_dim"]
    """Times the scale."""
    last: Int64[Tensor, "rows"]
    """The last key that each row sees."""


def rows_of(head: Head, count: int, mode: str) -> Rows:
    """Rows of the first `count` positions.

    Args:
        head: with at least `count` positions.
        count: number of keys.
        mode: "decode": the last rows, each sees all keys up to its own. "prefill": tiles of
            consecutive rows spread over the positions, causal. "both ways": the same, all keys
            seen.
    """
    if mode == "decode":
        position = count - 1 - 8 * torch.arange(DECODED).flip(0)
    else:
        starts = [(2 * i + 1) * count // (2 * TILES) - TILE // 2 for i in range(TILES)]
        if count < TILES * TILE:
            starts = [0]
        position = torch.cat([torch.arange(start, min(start + TILE, count)) for start in starts])
    heads = len(head.queries)
    last = torch.full_like(position, count - 1) if mode == "both ways" else position
    return Rows(
        head=head.name,
        keys=head.keys[:count],
        queries=head.queries[:, position].flatten(0, 1),
        last=last.repeat(heads),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """How synthetic keys and queries are drawn."""

    name: str
    """For tables."""
    spread: float
    """Deviation of a query's scores against keys drawn at random."""
    tightness: float = 0.0
    """Part of the variance of keys and queries that their cluster explains; 0 = no clusters."""
    in_order: bool = False
    """Each cluster at consecutive positions, not scattered."""


FAMILIES = (
    Family(name="Gaussian", spread=3.0),
    Family(name="clusters", spread=1.0, tightness=0.9),
    Family(name="tight clusters", spread=2.0, tightness=0.99),
    Family(name="tight clusters in order", spread=2.0, tightness=0.99, in_order=True),
)


def synthetic_head(family: Family, count: int, seed: int) -> Head:
    """A head of random keys: sqrt(count) clusters, each query near the cluster of a key it sees."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(count, HEAD_DIM, generator=generator)
    queries = torch.randn(count, HEAD_DIM, generator=generator)
    if family.tightness > 0:
        centres = torch.randn(round(count**0.5), HEAD_DIM, generator=generator)
        member = torch.randint(len(centres), (count,), generator=generator)
        if family.in_order:
            member = member.sort().values
        seen = (torch.rand(count, generator=generator) * torch.arange(1, count + 1)).long()
        signal, noise = family.tightness**0.5, (1 - family.tightness) ** 0.5
        keys = signal * centres[member] + noise * keys
        queries = signal * centres[member[seen]] + noise * queries
    scale = family.spread / HEAD_DIM**0.5
    return Head(name=f"seed {seed}", keys=keys, queries=(queries * scale).unsqueeze(0))


@torch.no_grad()
def recorded_heads(folder: Any, text: str, length: int) -> Iterator[Head]:
    """The heads of a pretrained model that reads the text's first `length` tokens.

    Keys and queries as they enter the attention (after rotary positions), float32.
    """
    model: PreTrainedModel = AutoModel.from_pretrained(folder, dtype=torch.float32)
    tokens = AutoTokenizer.from_pretrained(folder)(text)["input_ids"][:length]
    recorder = _Recorder()
    AttentionInterface.register(_RECORDER, recorder)
    AttentionMaskInterface.register(_RECORDER, sdpa_mask)
    model.eval().set_attn_implementation(_RECORDER)
    model(torch.tensor([tokens]))
    for layer, (queries, keys) in enumerate(recorder.layers):
        group = len(queries) // len(keys)
        for head, of_head in enumerate(keys):
            served = queries[head * group : (head + 1) * group]
            yield Head(name=f"layer {layer} key head {head}", keys=of_head, queries=served)


class _Recorder:
    """torch's attention, which remembers its scaled queries and its keys."""

    def __init__(self) -> None:
        self.layers: list[tuple[Tensor, Tensor]] = []

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, None]:
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        self.layers.append((query[0] * scale, key[0].clone()))
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
