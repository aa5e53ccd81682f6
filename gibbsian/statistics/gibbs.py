r"""One set of statistics for every row: attention over keys, next token over a vocabulary.

A row of scores $x$ at temperature $T = 1/\beta$ is the Gibbs distribution
$p_i = e^{\beta x_i}/Z$ over states of energy $E_i = -x_i$.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask, Scores
from gibbsian.numerics.masked import (
    check_finite,
    present_states,
    shifted_scores,
    working_dtype,
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GibbsStatistics:
    r"""Statistics of a batch of Gibbs distributions, one number a row in each field.

    Energies are in the units of the scores, entropies in nats. A row with no state has
    `max_score = log_partition = -inf` and every other number 0.

    The fields do not depend on a shift of the scores, but for `max_score`: that keeps them accurate
    for scores of any offset, and lets `merge` be exact.
    """

    max_score: Float[Tensor, "*batch"]
    r"""Largest score, $-E_0$ with $E_0$ the ground state's energy."""
    min_entropy: Float[Tensor, "*batch"]
    r"""Rényi entropy of infinite order, $H_\infty = -\log \max p$, in $[0, \log n]$."""
    collision_entropy: Float[Tensor, "*batch"]
    r"""Rényi entropy of order two, $H_2 = -\log \sum p_i^2$, in $[H_\infty, S]$."""
    entropy: Float[Tensor, "*batch"]
    r"""Shannon entropy $S = \langle -\log p \rangle$, in $[0, \log n]$."""
    varentropy: Float[Tensor, "*batch"]
    r"""$V = \mathrm{Var}(-\log p) \ge 0$, the heat capacity $dS/d\log T$; 0 iff p is uniform on its
    support."""
    third_cumulant: Float[Tensor, "*batch"]
    r"""$\kappa_3 = \langle (\log p + S)^3 \rangle$, the skewness of $\log p$ before scaling."""
    num_states: Float[Tensor, "*batch"]
    """Number of states present, n."""
    temperature: Float[Tensor, "*batch"]
    """Temperature T of the row."""

    @property
    def log_partition(self) -> Tensor:
        r"""$\log Z = \log \sum_i e^{\beta x_i}$."""
        occupied = self.num_states > 0
        # absent rows leave before the division: its gradient would be inf * 0
        ground = torch.where(occupied, self.max_score, 0.0) / self.temperature
        return torch.where(occupied, ground + self.min_entropy, -torch.inf)

    @property
    def free_energy(self) -> Tensor:
        r"""$F = -T \log Z$ (so that $S = -\partial F/\partial T$)."""
        occupied = self.num_states > 0
        finite = -self.temperature * torch.where(occupied, self.log_partition, 0.0)
        return torch.where(occupied, finite, torch.inf)

    @property
    def internal_energy(self) -> Tensor:
        r"""$U = \langle E \rangle = -\langle x \rangle = F + T S$; 0 in a row with no state."""
        excess = self.temperature * (self.entropy - self.min_entropy)
        return torch.where(self.num_states > 0, excess - self.max_score, 0.0)

    @property
    def max_prob(self) -> Tensor:
        """Largest probability; 0 in a row with no state."""
        return torch.where(self.num_states > 0, (-self.min_entropy).exp(), 0.0)

    @property
    def effective_support(self) -> Tensor:
        """$e^S$: how many equal states would have this entropy; 0 in a row with no state."""
        return torch.where(self.num_states > 0, self.entropy.exp(), 0.0)

    @property
    def participation_ratio(self) -> Tensor:
        r"""$1/\sum p_i^2 = e^{H_2}$; 0 in a row with no state."""
        return torch.where(self.num_states > 0, self.collision_entropy.exp(), 0.0)

    @property
    def normalized_entropy(self) -> Tensor:
        r"""$S / \log n$ in [0, 1]; 0 where n <= 1."""
        # a row of one state, or none, has entropy 0
        return (self.entropy / self.num_states.clamp_min(2.0).log()).clamp(0.0, 1.0)

    @property
    def susceptibility(self) -> Tensor:
        r"""Response of the entropy to sparsity at zeta = 0, $-dS_\zeta/d\zeta = S V - \kappa_3/2$.

        References: derivation in docs/derivations/gibbs.md#susceptibility.
        """
        return self.entropy * self.varentropy - self.third_cumulant / 2

    def merge(self, other: "GibbsStatistics") -> "GibbsStatistics":
        r"""Statistics of the union of two disjoint sets of states, e.g. two blocks of keys.

        Associative and commutative: blocks, time steps or processes may be reduced in any order.
        With $w_a = Z_a/Z$, $w_b = Z_b/Z$ and $D = (S_b - \log w_b) - (S_a - \log w_a)$ the
        difference of the mean surprisals, moments follow the laws of total cumulance, e.g.
        $V = w_a V_a + w_b V_b + w_a w_b D^2$: sums of terms >= 0, without the cancellation of raw
        moments. D is good to a few roundings of log n, so V to their square (1e-12 in float32).
        Both temperatures must be the same (not checked: it would need a device sync).

        References: docs/derivations/gibbs.md#merging.
        """
        a_present, b_present = self.num_states > 0, other.num_states > 0
        both = a_present & b_present
        # log(Z_a/Z_b), from differences only: exact whatever the offset of the scores
        gap = torch.where(both, self.max_score - other.max_score, 0.0) / self.temperature
        gap = gap + torch.where(both, self.min_entropy - other.min_entropy, 0.0)
        log_wa = torch.nn.functional.logsigmoid(gap)
        log_wb = torch.nn.functional.logsigmoid(-gap)
        wa, wb = log_wa.exp(), log_wb.exp()
        underflow = math.log(torch.finfo(gap.dtype).tiny)
        # log(w_a/w_b) is the gap itself. Where one part has no weight left the distance may be
        # huge, and its square infinite
        shared = both & (log_wa > underflow) & (log_wb > underflow)
        distance = torch.where(shared, other.entropy - self.entropy + gap, 0.0)
        max_score = torch.maximum(self.max_score, other.max_score)

        def union(a: Tensor, b: Tensor, merged: Tensor) -> Tensor:
            return torch.where(both, merged, torch.where(a_present, a, b))

        return GibbsStatistics(
            max_score=max_score,
            min_entropy=union(
                self.min_entropy,
                other.min_entropy,
                torch.minimum(self.min_entropy - log_wa, other.min_entropy - log_wb),
            ),
            collision_entropy=union(
                self.collision_entropy,
                other.collision_entropy,
                -torch.logaddexp(
                    2 * log_wa - self.collision_entropy, 2 * log_wb - other.collision_entropy
                ),
            ),
            entropy=union(
                self.entropy,
                other.entropy,
                wa * (self.entropy - log_wa) + wb * (other.entropy - log_wb),
            ),
            varentropy=union(
                self.varentropy,
                other.varentropy,
                wa * self.varentropy + wb * other.varentropy + wa * wb * distance.square(),
            ),
            third_cumulant=union(
                self.third_cumulant,
                other.third_cumulant,
                wa * self.third_cumulant
                + wb * other.third_cumulant
                # log p = -surprisal: odd terms change sign with the distance
                - 3 * wa * wb * distance * (other.varentropy - self.varentropy)
                - wa * wb * (wa - wb) * distance**3,
            ),
            num_states=self.num_states + other.num_states,
            temperature=self.temperature,
        )

    def reshape(self, shape: Sequence[int]) -> "GibbsStatistics":
        """The same numbers with the rows laid out in another shape."""
        return GibbsStatistics(
            **{f.name: getattr(self, f.name).reshape(shape) for f in fields(self)}
        )

    def detach(self) -> "GibbsStatistics":
        """The same numbers, cut from the autograd graph."""
        return GibbsStatistics(**{f.name: getattr(self, f.name).detach() for f in fields(self)})


def gibbs_statistics(
    scores: Scores,
    *,
    mask: Mask | None = None,
    temperature: float | Tensor = 1.0,
    dim: int = -1,
    validate: bool = False,
) -> GibbsStatistics:
    r"""Statistics of the Gibbs distribution $p_i \propto e^{x_i/T}$ of every row.

    Args:
        scores: any shape, with the states along `dim`. -inf marks an absent state.
        mask: True = present; broadcastable to `scores`. None = all.
        temperature: T > 0 in the units of the scores; a number, or one per row (broadcastable to
            the rows, that is to the shape of `scores` without `dim`).
        dim: dimension of the states.
        validate: raise on NaN or +inf scores and on a tensor of temperatures not > 0; costs a
            device sync. Otherwise they turn their own row into NaN.

    Returns:
        `GibbsStatistics` in the shape of `scores` without `dim`, in float32 or wider.

    Raises:
        ArgumentError: temperature <= 0, scores not floating-point, or a mask that does not fit.

    Notes:
        Differentiable to any order in scores and temperature. Deviations are centred before they
        are squared, so that a nearly uniform row keeps its varentropy. O(states) time and memory.

    References:
        Definitions and identities: docs/derivations/gibbs.md.
    """
    dtype = working_dtype(scores)
    present = present_states(scores, mask, dim).movedim(dim, -1)
    rows = scores.movedim(dim, -1).to(dtype)
    temperature = _row_temperature(temperature, rows, validate)
    if validate:
        check_finite(rows, present)
    shifted, maximum = shifted_scores(rows, present)
    # a state whose weight underflows leaves too: 0 times the square of its energy may be 0 * inf.
    # Negated, so that NaN stays.
    underflow = math.log(torch.finfo(dtype).tiny)
    reached = present & ~(shifted <= underflow * temperature.unsqueeze(-1))
    shifted = torch.where(reached, shifted, 0.0) / temperature.unsqueeze(-1)

    weights = torch.where(reached, shifted.exp(), 0.0)
    occupied = present.any(dim=-1)
    total = torch.where(occupied, weights.sum(dim=-1), 1.0)
    log_total = total.log()
    probs = weights / total.unsqueeze(-1)
    # energies relative to the ground state: a shift by log Z would round the small ones away
    excess = -(probs * shifted).sum(dim=-1)
    deviation = torch.where(reached, shifted + excess.unsqueeze(-1), 0.0)
    squares = probs * deviation.square()
    collisions = torch.where(occupied, probs.square().sum(dim=-1), 1.0)
    return GibbsStatistics(
        max_score=torch.where(occupied, maximum.squeeze(-1), -torch.inf),
        min_entropy=log_total,
        collision_entropy=-collisions.log(),
        entropy=log_total + excess,
        varentropy=squares.sum(dim=-1),
        third_cumulant=(squares * deviation).sum(dim=-1),
        num_states=present.sum(dim=-1).to(dtype),
        temperature=temperature,
    )


def _row_temperature(temperature: float | Tensor, rows: Tensor, validate: bool) -> Tensor:
    """One temperature a row, checked."""
    shape = rows.shape[:-1]
    if isinstance(temperature, Tensor):
        if validate and not bool((temperature > 0).all()):
            raise ArgumentError(
                f"`temperature` must be > 0, got {float(temperature.min())}. "
                "For the T -> 0 limit use `argmax`."
            )
        try:
            return temperature.to(rows).expand(shape)
        except RuntimeError:
            raise ArgumentError(
                f"`temperature` must broadcast to the rows {tuple(shape)}, "
                f"got {tuple(temperature.shape)}."
            ) from None
    if not temperature > 0:
        raise ArgumentError(
            f"`temperature` must be > 0, got {temperature}. For the T -> 0 limit use `argmax`."
        )
    return rows.new_full(shape, temperature)
