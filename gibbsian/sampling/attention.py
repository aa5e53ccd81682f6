"""What the attention of a model tells a policy: one number a row, never a matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionSignals:
    """How the attention of all layers looked at the context for the next token.

    Everything is in nats and of one sequence: no padding, no other row enters.
    """

    entropy: Float[Tensor, "batch"]
    """Mean entropy of the attention rows, nats."""
    varentropy: Float[Tensor, "batch"]
    """Mean varentropy of the attention rows, nats squared."""
    agreement: Float[Tensor, "batch"]
    """In [0, 1]: 1 = all heads of a layer look alike."""
    interaction_strength: Float[Tensor, "batch"]
    r"""Mean of $\log n - S \ge 0$, nats: how far the attention is from looking at all alike."""

    @classmethod
    def from_layers(
        cls, layers: Sequence[Float[Tensor, "batch _heads _queries 5"]]
    ) -> "AttentionSignals":
        r"""Signals of the last query, from the compact statistics of every layer.

        Args:
            layers: `AttentionStatistics.stack()` of each layer (entropy, varentropy, zeta,
                support size, number of keys), as a model gives them by `output_attentions=True`.

        Raises:
            ArgumentError: no layers.

        Notes:
            The statistics are those of the keys that the mask allows. A row that sees no key is
            left out, a row that sees one has nothing to choose and counts with entropy 0. The
            agreement is that of the heads' normalised entropies, $1 - 2 \langle |s_h - \bar s|
            \rangle$; two heads may agree in it and look at different tokens. For the distance of
            the distributions themselves give `agreement` from
            `gibbsian.observables.head_agreement`.
        """
        if not layers:
            raise ArgumentError(
                "`layers` must have the statistics of at least one layer, got none. "
                "Call the model with output_attentions=True."
            )
        last = [layer[:, :, -1].float() for layer in layers]
        agreements = torch.stack([_agreement(rows) for rows in last], dim=-1)
        rows = torch.cat(last, dim=1)
        entropy, varentropy, keys = rows[..., 0], rows[..., 1], rows[..., 4]
        seen = (keys > 0).to(rows.dtype)
        return cls(
            entropy=_mean(entropy, seen),
            varentropy=_mean(varentropy, seen),
            agreement=agreements.mean(dim=-1),
            interaction_strength=_mean(keys.clamp_min(1.0).log() - entropy, seen).clamp_min(0.0),
        )

    def rows(self, index: Tensor) -> "AttentionSignals":
        """The signals of some of the rows."""
        return AttentionSignals(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def _agreement(rows: Tensor) -> Tensor:
    """1 minus twice the mean distance of the heads' normalised entropies from their mean."""
    entropy, keys = rows[..., 0], rows[..., 4]
    several = keys > 1
    normalised = torch.where(several, entropy / torch.where(several, keys, 2.0).log(), 0.0)
    seen = (keys > 0).to(rows.dtype)
    mean = _mean(normalised, seen).unsqueeze(-1)
    return (1 - 2 * _mean((normalised - mean).abs(), seen)).clamp(0.0, 1.0)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(dim=-1) / weights.sum(dim=-1).clamp_min(1.0)
