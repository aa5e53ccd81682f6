r"""The sum over keys that is all a linear attention remembers.

With $b_{jf}$ = key_scale $k_{jf}$ and the maxima $m_f = \max_j b_{jf}$, the state of a set of keys
is $m$ and $M = \sum_j e^{b_j - m} \otimes (v_j, 1)$: $d (d_v + 1) + d$ numbers, however many keys.
States of disjoint sets merge, so that one piece of code serves all keys at once, chunks of keys,
and one key at a time.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LLNState:
    """Everything a query needs to know of a set of keys and values."""

    maximum: Float[Tensor, "batch heads head_dim"]
    """Largest log feature of the keys, feature by feature; -inf where there is no key."""
    memory: Float[Tensor, "batch heads head_dim value_dim_1"]
    """Sum of exp(log_key - maximum) outer value; the last column has values 1, so is the mass."""

    @classmethod
    def of(
        cls,
        log_key: Float[Tensor, "batch heads keys head_dim"],
        value: Float[Tensor, "batch heads keys value_dim"],
    ) -> "LLNState":
        """The state of these keys, of which there may be none.

        An absent key has log features -inf and a finite value.
        """
        if log_key.shape[-2] == 0:
            size = log_key.shape[-1], value.shape[-1] + 1
            return cls(
                maximum=log_key.new_full((*log_key.shape[:2], size[0]), -torch.inf),
                memory=value.new_zeros((*log_key.shape[:2], *size)),
            )
        # Results do not depend on the shift, so neither do gradients.
        maximum = log_key.detach().amax(dim=-2)
        features = (log_key - finite(maximum).unsqueeze(-2)).exp()
        return cls(maximum=maximum, memory=features.mT @ with_ones(value))

    def merge(self, other: "LLNState") -> "LLNState":
        """The state of the union of two disjoint sets of keys; associative."""
        maximum = torch.maximum(self.maximum, other.maximum)
        shift = finite(maximum)
        mine = (self.maximum - shift).exp().unsqueeze(-1)
        theirs = (other.maximum - shift).exp().unsqueeze(-1)
        return LLNState(maximum=maximum, memory=mine * self.memory + theirs * other.memory)

    def read(
        self, log_query: Float[Tensor, "batch heads queries head_dim"]
    ) -> Float[Tensor, "batch heads queries value_dim"]:
        """Attention output of each query over the keys of the state; 0 if there is none."""
        return normalized(query_features(log_query, finite(self.maximum)) @ self.memory)


def finite(maximum: Tensor) -> Tensor:
    """The maximum as a shift: 0 instead of the -inf of no key."""
    return torch.where(maximum > -torch.inf, maximum, 0.0)


def with_ones(value: Tensor) -> Tensor:
    """Values with a last column of ones, so that one product gives output and denominator."""
    return torch.cat([value, value.new_ones((*value.shape[:-1], 1))], dim=-1)


def query_features(log_query: Tensor, shift: Tensor) -> Tensor:
    r"""$\exp(a_{if} + s_f - \max_f(a_{if} + s_f))$: the largest feature of each query is 1.

    If the shift s is a maximum over keys that the query sees, each feature of weight 1 meets a key
    of weight 1, and the row's denominator is at least 1.
    """
    shift = shift.unsqueeze(-2)
    with torch.no_grad():
        shift = shift - (log_query + shift).amax(dim=-1, keepdim=True)
    return (log_query + shift).exp()


def normalized(sums: Tensor) -> Tensor:
    """Weighted sums divided by their last column, the mass; 0 where no key has any."""
    mass = sums[..., -1:]
    return sums[..., :-1] / torch.where(mass > 0, mass, 1.0)
