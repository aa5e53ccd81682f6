"""Inputs and comparisons that the tests of LLN share."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch

from tests.oracles import lln as oracle

QUERY_SCALE, KEY_SCALE = 2.0, 2.25


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call, with the mask that it stands for spelled out."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    is_causal: bool
    present: np.ndarray
    """(batch, keys)."""
    offset: int | None
    """Position of query 0 among the keys; None = the last stand at the last present keys."""

    def arguments(self):
        return {"mask": self.mask, "is_causal": self.is_causal}

    def seen(self):
        return oracle.visible(
            *self.query.shape[:3], self.key.shape[2], mask=self.mask, is_causal=self.is_causal
        )

    def places(self, sample):
        """The key at which each query stands, -1 for none."""
        queries = np.arange(self.query.shape[2])
        if self.offset is not None:
            return queries + self.offset
        kept = np.flatnonzero(self.present[sample])
        return [kept[n] if n >= 0 else -1 for n in queries + len(kept) - len(queries)]

    def weights(self, *, block_size=None):
        """P by the oracle, (batch, heads, queries, keys) float64."""
        seen = self.seen()
        result = np.zeros(seen.shape)
        for b, h in itertools.product(*map(range, seen.shape[:2])):
            arguments = self.query[b, h], self.key[b, h], QUERY_SCALE, KEY_SCALE, seen[b, h]
            if block_size is None:
                result[b, h] = oracle.weights(*arguments)
            else:
                result[b, h] = oracle.diag_weights(
                    *arguments,
                    scale=self.query.shape[-1] ** -0.5,
                    block_size=block_size,
                    places=self.places(b),
                    present=self.present[b],
                )
        return torch.from_numpy(result)


def make(queries, keys, *, causal, padding, dense=False, head_dim=4, value_dim=3, batch=2, heads=2):
    """A case: `padding` in none, left, right, holes; `dense` writes the mask out."""
    generator = torch.Generator().manual_seed(queries * 1000 + keys)
    query, key, value = (
        torch.randn(batch, heads, n, d, generator=generator, dtype=torch.float64)
        for n, d in ((queries, head_dim), (keys, head_dim), (keys, value_dim))
    )
    present = torch.ones(batch, keys, dtype=torch.bool)
    if padding == "left":
        present[-1, : keys // 3] = False
    elif padding == "right":
        present[-1, keys - keys // 3 :] = False
    elif padding == "holes":
        present = torch.rand(batch, keys, generator=generator) > 0.3
    mask = None if padding == "none" else present[:, None, None, :]
    is_causal = causal
    placed = queries == keys or (causal and not (dense and queries == 1))
    offset = 0
    if dense:
        tril = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries if causal else keys)
        mask = present[:, None, None, :] & tril
        is_causal, offset = False, keys - queries
    return Case(
        query=query,
        key=key,
        value=value,
        mask=mask,
        is_causal=is_causal,
        present=present.numpy(),
        offset=offset if placed else None,
    )


PADDINGS = ("none", "left", "right", "holes")
