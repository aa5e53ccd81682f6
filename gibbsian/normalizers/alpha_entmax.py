"""The functions and modules of the `entmax` package, by name and by argument.

    from entmax import entmax15        ->    from gibbsian import entmax15

They are `gibbsian.normalizers.entmax` in terms of alpha = 1 + zeta. Arguments that steer the
approximation of the original (`k`, `n_iter`, `ensure_sum_one`) are accepted and change nothing: the
threshold found here is exact to rounding, and the sum always 1. Unlike the original they take
alpha = 1, give a row of -inf probabilities 0, keep gradients in alpha accurate down to alpha = 1,
and differentiate twice.

alpha lies in [1, 2]: a number outside is refused, a tensor's row outside becomes NaN.
`normmax_bisect` and `budget_bisect` solve other problems and are not here.
"""

from torch import Tensor, nn

from gibbsian._errors import ArgumentError
from gibbsian._typing import Scores
from gibbsian.normalizers.entmax import entmax


def sparsity_of(alpha: float | Tensor) -> float | Tensor:
    """The sparsity zeta = alpha - 1, checked where alpha is a number.

    Raises:
        ArgumentError: alpha outside [1, 2].
    """
    if not isinstance(alpha, Tensor) and not 1.0 <= alpha <= 2.0:
        raise ArgumentError(
            f"`alpha` must lie in [1, 2], got {alpha}. 1 is softmax, 1.5 entmax15, 2 sparsemax."
        )
    return alpha - 1


def sparsemax(X: Scores, dim: int = -1, k: int | None = None) -> Tensor:  # noqa: ARG001, N803
    """Euclidean projection of `X` onto the simplex along `dim`: entmax at alpha = 2.

    Args:
        X: scores, any shape; -inf marks an absent state.
        dim: dimension of the states.
        k: has no effect (partial sorting in the original).

    Returns:
        Probabilities like `X`.
    """
    return entmax(X, 1.0, dim=dim)


def entmax15(X: Scores, dim: int = -1, k: int | None = None) -> Tensor:  # noqa: ARG001, N803
    """Entmax at alpha = 1.5 along `dim`.

    Args:
        X: scores, any shape; -inf marks an absent state.
        dim: dimension of the states.
        k: has no effect (partial sorting in the original).

    Returns:
        Probabilities like `X`.
    """
    return entmax(X, 0.5, dim=dim)


def entmax_bisect(
    X: Scores,  # noqa: N803
    alpha: float | Tensor = 1.5,
    dim: int = -1,
    n_iter: int = 50,  # noqa: ARG001
    ensure_sum_one: bool = True,  # noqa: ARG001
) -> Tensor:
    """Entmax along `dim`, differentiable in `X` and in `alpha`.

    Args:
        X: scores, any shape; -inf marks an absent state.
        alpha: in [1, 2]: a number, or a tensor that broadcasts to `X` with size 1 at `dim`. A
            float32 tensor cannot tell 1 + 1e-8 from 1: for such values call `entmax` with zeta.
        dim: dimension of the states.
        n_iter: has no effect (no bisection is made).
        ensure_sum_one: has no effect (the sum always is one).

    Returns:
        Probabilities like `X`.

    Raises:
        ArgumentError: alpha outside [1, 2] or of a shape that does not fit.
    """
    return entmax(X, sparsity_of(alpha), dim=dim)


def sparsemax_bisect(
    X: Scores,  # noqa: N803
    dim: int = -1,
    n_iter: int = 50,  # noqa: ARG001
    ensure_sum_one: bool = True,  # noqa: ARG001
) -> Tensor:
    """`sparsemax` by the name of its variant; `n_iter` and `ensure_sum_one` have no effect."""
    return sparsemax(X, dim=dim)


class Sparsemax(nn.Module):
    """`sparsemax` along `dim` as a module; `k` has no effect."""

    def __init__(self, dim: int = -1, k: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.k = k

    def forward(self, X: Scores) -> Tensor:  # noqa: N803
        """Probabilities like `X`."""
        return sparsemax(X, dim=self.dim, k=self.k)


class Entmax15(nn.Module):
    """`entmax15` along `dim` as a module; `k` has no effect."""

    def __init__(self, dim: int = -1, k: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.k = k

    def forward(self, X: Scores) -> Tensor:  # noqa: N803
        """Probabilities like `X`."""
        return entmax15(X, dim=self.dim, k=self.k)


class EntmaxBisect(nn.Module):
    """`entmax_bisect` along `dim` as a module; `n_iter` has no effect.

    `alpha` given as an `nn.Parameter` is registered, and learned.
    """

    def __init__(self, alpha: float | Tensor = 1.5, dim: int = -1, n_iter: int = 50) -> None:
        super().__init__()
        self.alpha = alpha
        self.dim = dim
        self.n_iter = n_iter

    def forward(self, X: Scores) -> Tensor:  # noqa: N803
        """Probabilities like `X`."""
        return entmax_bisect(X, alpha=self.alpha, dim=self.dim, n_iter=self.n_iter)


class SparsemaxBisect(nn.Module):
    """`Sparsemax` by the name of its variant; `n_iter` has no effect."""

    def __init__(self, dim: int = -1, n_iter: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.n_iter = n_iter

    def forward(self, X: Scores) -> Tensor:  # noqa: N803
        """Probabilities like `X`."""
        return sparsemax(X, dim=self.dim)
