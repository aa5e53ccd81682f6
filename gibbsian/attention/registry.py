"""Attentions by name, for configurations and the command line."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gibbsian._errors import ArgumentError
from gibbsian.attention.base import Attention
from gibbsian.attention.layers import AES, Entmax, Softmax
from gibbsian.attention.lln.layers import LLN, LLNDiag

ATTENTIONS: Mapping[str, type[Attention]] = MappingProxyType(
    {attention.name: attention for attention in (Softmax, Entmax, AES, LLN, LLNDiag)}
)
"""Every attention of the package by its name."""


def attention_from_config(config: Mapping[str, Any]) -> Attention:
    """The attention that `Attention.to_config` described, with fresh parameters.

    Args:
        config: `{"name": ..., options}`; options left out take their defaults.

    Raises:
        ArgumentError: no or an unknown name, or options that do not fit.
    """
    options = dict(config)
    name = options.pop("name", None)
    attention = ATTENTIONS.get(name) if isinstance(name, str) else None
    if attention is None:
        raise ArgumentError(
            f"`name` of an attention must be one of {', '.join(map(repr, ATTENTIONS))}, "
            f"got {name!r}."
        )
    return attention.from_options(options)
