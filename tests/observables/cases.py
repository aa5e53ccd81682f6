"""Inputs with every feature that rows may have."""

from dataclasses import dataclass

import torch

from gibbsian.attention.inputs import causal_mask


@dataclass(frozen=True)
class Case:
    heads: int = 4
    key_heads: int = 4
    queries: int = 9
    keys: int = 9
    is_causal: bool = False
    mask: str | None = None
    scale: float | None = None


CASES = {
    "plain": Case(),
    "causal": Case(is_causal=True),
    "fewer queries": Case(queries=5),
    "fewer queries, causal": Case(queries=5, is_causal=True),
    "more queries, causal": Case(keys=5, is_causal=True),
    "grouped": Case(key_heads=2, is_causal=True, scale=0.7),
    "one key head": Case(key_heads=1),
    "padding left": Case(mask="left", is_causal=True),
    "padding right": Case(mask="right"),
    "any mask": Case(mask="any"),
    "any mask, causal, grouped": Case(mask="any", is_causal=True, key_heads=2),
    "mask of a head": Case(mask="head"),
    "mask of queries": Case(mask="queries"),
    "one query": Case(queries=1),
    "one key": Case(keys=1),
}
BATCH, HEAD_DIM = 2, 8


def build(name, dtype=torch.float64):
    """Query, key, keyword arguments, and the full boolean mask that they amount to."""
    case = CASES[name]
    shape = (BATCH, case.heads, case.queries, case.keys)
    query = torch.randn(*shape[:3], HEAD_DIM, dtype=torch.float64)
    query *= torch.linspace(0.3, 4, case.queries, dtype=torch.float64).unsqueeze(-1)
    key = torch.randn(BATCH, case.key_heads, case.keys, HEAD_DIM, dtype=torch.float64)
    mask = _mask(case.mask, shape)
    seen = torch.ones(shape, dtype=torch.bool) if mask is None else mask.expand(shape)
    if case.is_causal:
        seen = seen & causal_mask(case.queries, case.keys, query.device)
    options = {
        "mask": mask,
        "is_causal": case.is_causal,
        "scale": case.scale,
        "enable_gqa": case.key_heads != case.heads,
    }
    return query.to(dtype), key.to(dtype), options, seen


def _mask(kind, shape):
    batch, _, queries, keys = shape
    if kind is None:
        return None
    if kind in ("left", "right"):
        lengths = torch.tensor([keys, max(1, keys - 3)])
        index = torch.arange(keys) if kind == "right" else torch.arange(keys).flip(0)
        return (index < lengths[:batch, None])[:, None, None, :]
    if kind == "queries":
        return (torch.arange(queries) % 2 == 0)[:, None]
    mask = torch.rand(shape if kind == "any" else (shape[1], 1, keys)) > 0.4
    if kind == "any":
        mask[0, 1, 3] = False  # a row without keys
    return mask
