r"""n-point functions of observables of a row's states, and the connected ones, at any sparsity.

A source $\xi$ coupled to an observable a of the states adds $\xi a_j$ to the scores. The potential
generates the connected functions, the cumulants at $\zeta = 0$, and with a different observable for
each derivative the mixed ones:

$$\langle a^n \rangle_c = \frac{\partial^n}{\partial \xi^n} \Phi_\zeta(x + \xi a).$$

Derivation: docs/derivations/correlators.md.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask, PerRow
from gibbsian.normalizers import entmax, softmax
from gibbsian.numerics.masked import working_dtype

_HIGHEST = 4


def correlator(
    scores: Float[Tensor, "*batch states"],
    *observables: Float[Tensor, "..."],
    mask: Mask | None = None,
) -> PerRow:
    r"""n-point function of every row: the mean of a product.

    $$\langle a b \cdots \rangle = \frac1Z \partial_{\xi_a} \partial_{\xi_b} \cdots Z
      = \sum_j p_j a_j b_j \cdots$$

    Args:
        scores: -inf marks an absent state.
        *observables: numbers of the states, each broadcastable to `scores`; the same one n times
            gives the n-th moment.
        mask: True = present; broadcastable to `scores`. None = all.

    Returns:
        In float32 or wider; 0 in a row with no state.

    Raises:
        ArgumentError: no observable, or one that does not fit.

    Notes:
        Differentiable; O(states) time. Z generates these at $\zeta = 0$ only: at other sparsities
        there is no Z, and `connected_correlator` is what the potential generates.

    References:
        docs/derivations/correlators.md#moments.
    """
    columns = _columns(scores, observables)
    weights = softmax(_wide(scores), mask=mask)
    present = weights > 0
    product = weights
    for column in columns:
        product = product * torch.where(present, column, 0.0)
    return product.sum(dim=-1)


def connected_correlator(
    scores: Float[Tensor, "*batch states"],
    *observables: Float[Tensor, "..."],
    zeta: float | Tensor = 0.0,
    mask: Mask | None = None,
) -> PerRow:
    r"""Connected n-point function of every row, to fourth order.

    $$\langle a b \cdots \rangle_c = \partial_{\xi_a} \partial_{\xi_b} \cdots \Phi_\zeta(
      x + \xi_a a + \xi_b b + \ldots)$$

    With $\delta a = a - \langle a \rangle_q$ from the mean in the escort distribution, and
    $s^{(k)}_j = \exp_\zeta^{(k)}(x_j - c) = \prod_{m<k}(1 - m\zeta)\; p_j^{1 - k\zeta}$ on the
    support,

    $$\langle a \rangle_c = \sum_j p_j a_j, \quad
      \langle ab \rangle_c = \sum_j s^{(1)}_j\, \delta a_j\, \delta b_j, \quad
      \langle abc \rangle_c = \sum_j s^{(2)}_j\, \delta a_j\, \delta b_j\, \delta c_j,$$

    and the fourth in the derivation. At $\zeta = 0$ these are the joint cumulants.

    Args:
        scores: -inf marks an absent state.
        *observables: one to four, numbers of the states, each broadcastable to `scores`; the same
            one n times gives the n-th cumulant.
        zeta: sparsity in [0, 1]; a number or a tensor broadcastable to the rows with size 1 for the
            states.
        mask: True = present; broadcastable to `scores`. None = all.

    Returns:
        In float32 or wider; 0 in a row with no state.

    Raises:
        ArgumentError: no observable or more than four, one that does not fit, or as `entmax`.

    Notes:
        Where a state is just entering the support the derivative may not exist. The second is
        continuous there for zeta < 1, the third for zeta < 1/2, the fourth for zeta < 1/3. At those
        values they jump; above them they grow without bound on the side of the larger support, as
        $p^{1 - k \zeta}$. At zeta = 1 the third and fourth are 0 wherever they exist. O(states)
        time. Results are as exact as the weights: a p near 0 is raised to a negative power, so use
        float64 there.

    References:
        docs/derivations/correlators.md#connected.
    """
    columns = _columns(scores, observables)
    if len(columns) > _HIGHEST:
        raise ArgumentError(
            f"`observables` must be at most {_HIGHEST}, got {len(columns)}. Differentiate "
            "`gibbsian.normalizers.potential` for higher orders."
        )
    scores = _wide(scores)
    weights = entmax(scores, zeta, mask=mask)
    sparsity = torch.as_tensor(zeta, dtype=weights.dtype, device=weights.device)
    if len(columns) == 1:
        return (weights * torch.where(weights > 0, columns[0], 0.0)).sum(dim=-1)
    first = _response(weights, sparsity, 1)
    total = first.sum(dim=-1, keepdim=True)
    total = torch.where(total > 0, total, 1.0)
    deviations = [_deviation(column, first, total) for column in columns]
    whole = _response(weights, sparsity, len(columns) - 1)
    result = (whole * math.prod(deviations)).sum(dim=-1)
    if len(columns) < _HIGHEST:
        return result
    second = _response(weights, sparsity, 2)
    # the three ways to pair four observables: the first with each of the others
    for partner in (1, 2, 3):
        rest = [deviations[i] for i in (1, 2, 3) if i != partner]
        pair = (second * deviations[0] * deviations[partner]).sum(dim=-1)
        result = result - pair * (second * math.prod(rest)).sum(dim=-1) / total.squeeze(-1)
    return result


def value_correlator(
    scores: Float[Tensor, "*batch states"],
    values: Float[Tensor, "*#batch states value_dim"],
    *,
    zeta: float | Tensor = 0.0,
    mask: Mask | None = None,
) -> Float[Tensor, "*batch value_dim value_dim"]:
    r"""Connected 2-point function of vector values: $C = \partial^2 \Phi_\zeta / \partial \xi^2$.

    $$\Phi_\zeta(x + V \xi), \quad \xi \in R^d: \qquad
      C = \Bigl(\sum_j s_j\Bigr)\, \mathrm{Cov}_q(v), \qquad s_j = p_j^{1 - \zeta}, \quad
      q = s / \sum s$$

    The response of an attention's output $\partial\Phi/\partial\xi$ to a source; the covariance of
    the values in the row at $\zeta = 0$.

    Args:
        scores: -inf marks an absent state.
        values: a vector for each state.
        zeta: sparsity in [0, 1]; a number or a tensor broadcastable to the rows with size 1 for the
            states.
        mask: True = present; broadcastable to `scores`. None = all.

    Returns:
        Symmetric, positive semidefinite, in float32 or wider; 0 in a row with no state.

    Raises:
        ArgumentError: as `entmax`.

    Notes:
        Holds (*batch, states, value_dim) numbers: give a block of rows at a time.

    References:
        docs/derivations/correlators.md#values.
    """
    scores = _wide(scores)
    weights = entmax(scores, zeta, mask=mask)
    sparsity = torch.as_tensor(zeta, dtype=weights.dtype, device=weights.device)
    first = _response(weights, sparsity, 1).unsqueeze(-1)
    total = first.sum(dim=-2, keepdim=True)
    values = torch.where(first > 0, values.to(weights), 0.0)
    mean = (first * values).sum(dim=-2, keepdim=True) / torch.where(total > 0, total, 1.0)
    deviation = torch.where(first > 0, values - mean, 0.0)
    with torch.autocast(scores.device.type, enabled=False):
        return deviation.mT @ (first * deviation)


def _wide(scores: Tensor) -> Tensor:
    return scores.to(working_dtype(scores))


def _columns(scores: Tensor, observables: tuple[Tensor, ...]) -> list[Tensor]:
    if not observables:
        raise ArgumentError(
            "`observables` must be at least one, got none. Pass numbers of the states, such as "
            "`values[..., 0]`."
        )
    return [_column(scores, observable) for observable in observables]


def _column(scores: Tensor, observable: Tensor) -> Tensor:
    try:
        return observable.to(_wide(scores)).expand(scores.shape)
    except RuntimeError:
        raise ArgumentError(
            f"`observables` must broadcast to `scores` {tuple(scores.shape)}, got "
            f"{tuple(observable.shape)}. One number a state goes along the last dimension."
        ) from None


def _response(weights: Tensor, sparsity: Tensor, order: int) -> Tensor:
    r"""$\exp_\zeta^{(k)} = \prod_{m<k}(1-m\zeta)\,p^{1-k\zeta}$ on the support, 0 off it."""
    factor = torch.ones_like(sparsity)
    for m in range(order):
        factor = factor * (1 - m * sparsity)
    there = (weights > 0) & (factor != 0)
    return torch.where(
        there, factor * torch.where(there, weights, 1.0) ** (1 - order * sparsity), 0
    )


def _deviation(column: Tensor, first: Tensor, total: Tensor) -> Tensor:
    column = torch.where(first > 0, column, 0.0)
    mean = (first * column).sum(dim=-1, keepdim=True) / total
    return torch.where(first > 0, column - mean, 0.0)
