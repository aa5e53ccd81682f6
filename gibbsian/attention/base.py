"""What every attention has in common: its calling convention and its statistics."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Unpack

from gibbsian._dispatch import Backend
from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionStatistics:
    """One number for each attention row, each field shaped (batch, heads, queries)."""

    entropy: Float[Tensor, "batch heads queries"]
    """Shannon entropy of the row's Gibbs distribution (before sparsity), nats."""
    varentropy: Float[Tensor, "batch heads queries"]
    """Its varentropy, nats squared."""
    zeta: Float[Tensor, "batch heads queries"]
    """Sparsity in [0, 1]."""
    support_size: Float[Tensor, "batch heads queries"]
    """Number of keys with a weight > 0."""
    num_keys: Float[Tensor, "batch heads queries"]
    """Number of keys the row may attend to."""

    names: ClassVar[tuple[str, ...]] = (
        "entropy",
        "varentropy",
        "zeta",
        "support_size",
        "num_keys",
    )

    def stack(self) -> Float[Tensor, "batch heads queries 5"]:
        """The fields in the order of `names` along a new last dimension, float32, detached."""
        return torch.stack([getattr(self, n).detach().float() for n in self.names], dim=-1)

    @classmethod
    def unstack(cls, stacked: Float[Tensor, "batch heads queries 5"]) -> "AttentionStatistics":
        """Inverse of `stack`."""
        return cls(**dict(zip(cls.names, stacked.unbind(dim=-1), strict=True)))


class AttentionArguments(TypedDict, total=False):
    """Keyword arguments of every attention, as in `scaled_dot_product_attention`."""

    mask: Mask | None
    """Boolean, True = may attend; broadcastable to (batch, heads, queries, keys)."""
    is_causal: bool
    """Query i sees keys 0..i (aligned at the top left, as SDPA documents)."""
    scale: float | None
    """Factor of the scores; None = 1/sqrt(head_dim)."""
    dropout_p: float
    """Probability with which a weight is dropped; give 0 in evaluation."""
    enable_gqa: bool
    """key_heads may divide heads; each serves heads/key_heads query heads."""
    backend: Backend
    """Which implementation runs: "auto" (the fastest that can), "reference" or "cpu"."""


class Attention(nn.Module, ABC):
    """An attention that a transformer's layer can be given: a function of query, key and value.

    Concrete subclasses are final, set `name`, and are listed in
    `gibbsian.attention.attention_from_config`. They may hold parameters (a learnable schedule) or
    buffers (running moments), but no projections: those stay the model's.
    """

    name: ClassVar[str]
    """Name in configurations and on the command line."""

    @abstractmethod
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        return_statistics: bool = False,
        **arguments: Unpack[AttentionArguments],
    ) -> Tensor | tuple[Tensor, AttentionStatistics]:
        """Conventions of `torch.nn.functional.scaled_dot_product_attention`.

        Args:
            query: (batch, heads, queries, head_dim).
            key: (batch, key_heads, keys, head_dim).
            value: (batch, key_heads, keys, value_dim).
            return_statistics: also return `AttentionStatistics`.
            **arguments: see `AttentionArguments`.

        Returns:
            (batch, heads, queries, value_dim) in the dtype of `query`, 0 for a query that sees no
            key; with `return_statistics`, also the rows' statistics.
        """

    def to_config(self) -> dict[str, Any]:
        """JSON-able description, `{"name": ..., options}`, without parameter values."""
        return {"name": self.name, **self._options()}

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """The keyword arguments that build this attention again, JSON-able."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Attention":
        """Inverse of `_options`; unknown or missing options raise `ArgumentError`."""
        try:
            return cls(**options)
        except TypeError as error:
            raise ArgumentError(
                f"`options` of attention {cls.name!r} do not fit: {error}."
            ) from None
