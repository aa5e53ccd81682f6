r"""The eigenvalue of largest modulus of an operator, for many heads at once.

Arnoldi's method without restarts: in as many products no method that sees products only does
better, and one attention call serves all heads. Its convergence is judged by an absolute residual,
so that an operator of rank 0 (uniform attention) ends at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

_FIRST_CHECK = 8
"""Products before the Ritz values are first looked at; then after each quarter more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DominantEigenvalue:
    """What Arnoldi's method found for each sample and head."""

    value: Complex[Tensor, "batch heads"]
    """The Ritz value of largest modulus; NaN where products are not finite."""
    residual: Float[Tensor, "batch heads"]
    r"""$|A x - \lambda x|$ for its unit vector x."""
    converged: Bool[Tensor, "batch heads"]
    """Whether the residual is within the tolerance."""


def dominant_eigenvalue(
    product: Callable[[Tensor], Tensor],
    start: Float[Tensor, "batch heads n"],
    *,
    tolerance: float,
    max_products: int,
    squared: bool = False,
) -> DominantEigenvalue:
    r"""The eigenvalue of largest modulus of each sample's and head's operator.

    Args:
        product: applies the n x n operators to one vector each.
        start: start vectors; what they do not contain is not found.
        tolerance: largest residual that ends the iteration, > 0.
        max_products: how many applications at most, >= 1.
        squared: the operator is $B^\top B$; residuals are then those of B's singular vectors,
            $|B^\top B x - \sigma^2 x| / \sigma$.

    Notes:
        Memory O(n products). The basis has the dtype of `start`; the small eigenproblems are solved
        in float64.
    """
    batch, heads, size = start.shape
    steps = max(1, min(max_products, size))
    basis = start.new_zeros(min(steps + 1, 2 * _FIRST_CHECK), batch, heads, size)
    basis[0] = _unit(start, torch.linalg.vector_norm(start, dim=-1))
    small = torch.zeros(batch, heads, steps + 1, steps, dtype=torch.float64, device=start.device)
    check = min(_FIRST_CHECK, steps)
    for step in range(1, steps + 1):
        image = product(basis[step - 1])
        length = torch.linalg.vector_norm(image, dim=-1)
        for _ in range(2):  # once leaves what was rounded away
            shares = torch.einsum("mbhn,bhn->mbh", basis[:step], image)
            image = image - torch.einsum("mbhn,mbh->bhn", basis[:step], shares)
            small[:, :, :step, step - 1] += shares.permute(1, 2, 0)
        rest = torch.linalg.vector_norm(image, dim=-1)
        # a remainder of rounding only: the space is invariant
        floor = 4 * torch.finfo(start.dtype).eps * length
        rest = torch.where(rest > floor, rest, 0.0)
        small[:, :, step, step - 1] = rest
        if step in (check, steps):
            found = _ritz(small[:, :, :step, :step], rest, tolerance, squared)
            if step == steps or bool((found.converged | found.value.isnan()).all()):
                return found
            check = min(steps, step + max(4, step // 4))
        if step + 1 >= len(basis):
            basis = torch.cat([basis, torch.zeros_like(basis)])
        basis[step] = _unit(image, rest)
    raise AssertionError("the last step returns")


def _unit(vector: Tensor, length: Tensor) -> Tensor:
    length = length.unsqueeze(-1)
    return torch.where(length > 0, vector / torch.where(length > 0, length, 1.0), 0.0)


def _ritz(small: Tensor, rest: Tensor, tolerance: float, squared: bool) -> DominantEigenvalue:
    finite = small.isfinite().all(dim=-1).all(dim=-1)
    values, vectors = torch.linalg.eig(torch.where(finite[..., None, None], small, 0.0))
    largest = values.abs().argmax(dim=-1, keepdim=True)
    value = torch.where(finite, values.gather(-1, largest).squeeze(-1), torch.nan)
    share = vectors[..., -1, :].gather(-1, largest).squeeze(-1).abs()
    residual = torch.where(finite, rest.double() * share, torch.nan)
    if squared:
        root = value.abs().sqrt()
        residual = torch.where(residual > 0, residual / root, residual)
    return DominantEigenvalue(value=value, residual=residual, converged=residual <= tolerance)
