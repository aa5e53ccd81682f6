"""Sizes of the benchmark, in full and for a quick look."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Shapes:
    """What every group of cases is measured at. Batch 1."""

    heads: int = 8
    """Attention heads."""
    head_dim: int = 64
    """Numbers in a query, key or value."""
    rows: int = 2048
    """Rows of a normaliser."""
    states: int = 1024
    """States in such a row."""
    exact: tuple[int, ...] = (2048, 4096, 8192)
    """Lengths of the attentions that look at all pairs, and of their statistics."""
    short: tuple[int, ...] = (256, 512, 1024)
    """Lengths at which exact sparsity costs most beside softmax."""
    linear: tuple[int, ...] = (1024, 4096, 8192)
    """Lengths of the linear attentions."""
    linear_causal: tuple[int, ...] = (4096, 16384)
    """The same, causal."""
    cache: tuple[int, ...] = (32768, 131072)
    """Keys that one query decodes over."""
    short_cache: tuple[int, ...] = (1024, 4096, 8192)
    """The same, too few to gain anything from."""
    memory: int = 32768
    """Length at which memory is measured."""
    model: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
    """Lengths of whole models."""
    model_optional: tuple[int, ...] = (16384,)
    """The same, only where named."""
    model_layers: int = 12
    """Layers of a whole model."""
    model_width: int = 768
    """Its width; heads have 64 numbers."""
    model_vocabulary: int = 50265
    """Its tokens."""


FULL = Shapes()
QUICK = Shapes(
    heads=2,
    head_dim=16,
    rows=32,
    states=64,
    exact=(64,),
    short=(32,),
    linear=(64,),
    linear_causal=(128,),
    cache=(256,),
    short_cache=(64,),
    memory=256,
    model=(128,),
    model_optional=(),
    model_layers=1,
    model_width=128,
    model_vocabulary=200,
)
"""Every kind of case in seconds: shows that all work, says nothing about speed."""
