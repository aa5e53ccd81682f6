r"""Fenchel-Young losses: what entmax is trained with, as softmax is with cross entropy.

$$L(x, y) = \Phi_\zeta(x) - x_y \ge 0, \qquad \nabla_x L = p - e_y.$$

At zeta = 0 this is the cross entropy $J = \log Z - x_y = \beta (E_y - F)$. For zeta > 0 it is
exactly 0 once $x_y$ exceeds every other score by 1/zeta: a margin.

The names, arguments and reductions of the `entmax` package's losses are kept, so that
`from entmax import sparsemax_loss` becomes `from gibbsian import sparsemax_loss` and nothing else
changes. `k` and `n_iter` have no effect (no partial sort, no bisection); the loss of alpha is
differentiable in alpha as well, and any number of batch dimensions is taken.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gibbsian._errors import ArgumentError
from gibbsian._typing import Scores
from gibbsian.normalizers.alpha_entmax import sparsity_of
from gibbsian.normalizers.potential import potential
from gibbsian.numerics.masked import present_states, shifted_scores, working_dtype

_REDUCTIONS = ("elementwise_mean", "sum", "none")


def fenchel_young_loss(
    scores: Scores, target: Tensor, zeta: float | Tensor, *, ignore_index: int = -100
) -> Tensor:
    r"""$\Phi_\zeta(x) - x_y$ of every row.

    Args:
        scores: (*batch, classes); -inf marks an absent class.
        target: (*batch), int64 in [0, classes), or `ignore_index`.
        zeta: sparsity in [0, 1]; a number, or a tensor that broadcasts to (*batch, 1).
        ignore_index: rows with this target have loss 0 and gradient 0.

    Returns:
        (*batch), >= 0, in the dtype of `scores`; inf where the target is an absent class.

    Raises:
        ArgumentError: target of another shape or dtype; zeta as `entmax`.

    Notes:
        Differentiable in scores and zeta, twice. Independent of an offset of the scores, also in
        its digits. A target outside its range raises torch's own index error.

    References:
        Blondel, Martins & Niculae 2020; docs/derivations/entmax.md#potential.
    """
    if target.dtype != torch.int64:
        raise ArgumentError(
            f"`target` must be int64 class indices, got {target.dtype}. Convert with `.long()`."
        )
    if scores.dim() == 0 or target.shape != scores.shape[:-1]:
        raise ArgumentError(
            f"`target` must have the shape of `scores` {tuple(scores.shape)} without its last "
            f"dimension, got {tuple(target.shape)}."
        )
    ignored = target == ignore_index
    # what an ignored row holds must not reach a gradient, be it NaN
    rows = torch.where(ignored.unsqueeze(-1), 0.0, scores.to(working_dtype(scores)))
    # the loss does not change with a shift: take the offset away before it costs digits
    _, maximum = shifted_scores(rows.detach(), present_states(rows, None))
    rows = rows - maximum
    observed = rows.gather(-1, torch.where(ignored, 0, target).unsqueeze(-1)).squeeze(-1)
    value = potential(rows, zeta)
    # without any class the difference would be one of infinities
    loss = torch.where(value == -torch.inf, torch.inf, value - observed)
    loss = torch.where(ignored, 0.0, loss)
    return loss.to(scores.dtype)


def sparsemax_loss(
    X: Scores,  # noqa: N803
    target: Tensor,
    k: int | None = None,  # noqa: ARG001
    ignore_index: int = -100,
) -> Tensor:
    """Loss of every row for sparsemax (alpha = 2); see `fenchel_young_loss`. `k` has no effect."""
    return fenchel_young_loss(X, target, 1.0, ignore_index=ignore_index)


def sparsemax_bisect_loss(
    X: Scores,  # noqa: N803
    target: Tensor,
    n_iter: int = 50,  # noqa: ARG001
    ignore_index: int = -100,
) -> Tensor:
    """`sparsemax_loss` by the name of its variant. `n_iter` has no effect."""
    return fenchel_young_loss(X, target, 1.0, ignore_index=ignore_index)


def entmax15_loss(
    X: Scores,  # noqa: N803
    target: Tensor,
    k: int | None = None,  # noqa: ARG001
    ignore_index: int = -100,
) -> Tensor:
    """Loss of every row for alpha = 1.5; see `fenchel_young_loss`. `k` has no effect."""
    return fenchel_young_loss(X, target, 0.5, ignore_index=ignore_index)


def entmax_bisect_loss(
    X: Scores,  # noqa: N803
    target: Tensor,
    alpha: float | Tensor = 1.5,
    n_iter: int = 50,  # noqa: ARG001
    ignore_index: int = -100,
) -> Tensor:
    """Loss of every row for alpha in [1, 2]; see `fenchel_young_loss`. `n_iter` has no effect.

    alpha = 1 is the cross entropy. A tensor of alphas has one a row, shaped (*batch, 1).
    """
    return fenchel_young_loss(X, target, sparsity_of(alpha), ignore_index=ignore_index)


class _Reduced(nn.Module, ABC):
    """Losses of all rows, reduced.

    Args:
        ignore_index: target of the rows to leave out; they do not count in the mean.
        reduction: "elementwise_mean" (0 where every row is ignored), "sum" or "none".
    """

    def __init__(self, ignore_index: int, reduction: str) -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            raise ArgumentError(
                f"`reduction` must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}."
            )
        self.ignore_index = ignore_index
        self.reduction = reduction

    @abstractmethod
    def loss(self, X: Scores, target: Tensor) -> Tensor:  # noqa: N803
        """Loss of every row."""

    def forward(self, X: Scores, target: Tensor) -> Tensor:  # noqa: N803
        """The reduced loss, summed in float32 or wider."""
        losses = self.loss(X.to(working_dtype(X)), target)
        if self.reduction != "none":
            losses = losses.sum()
        if self.reduction == "elementwise_mean":
            losses = losses / (target != self.ignore_index).sum().clamp_min(1)
        return losses.to(X.dtype)


class SparsemaxLoss(_Reduced):
    """`sparsemax_loss` as a module: `ignore_index` and `reduction` as in the `entmax` package."""

    def __init__(
        self,
        k: int | None = None,
        ignore_index: int = -100,
        reduction: str = "elementwise_mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.k = k

    def loss(self, X: Scores, target: Tensor) -> Tensor:  # noqa: N803
        """Loss of every row."""
        return sparsemax_loss(X, target, self.k, self.ignore_index)


class SparsemaxBisectLoss(_Reduced):
    """`sparsemax_bisect_loss` as a module."""

    def __init__(
        self, n_iter: int = 50, ignore_index: int = -100, reduction: str = "elementwise_mean"
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.n_iter = n_iter

    def loss(self, X: Scores, target: Tensor) -> Tensor:  # noqa: N803
        """Loss of every row."""
        return sparsemax_bisect_loss(X, target, self.n_iter, self.ignore_index)


class Entmax15Loss(_Reduced):
    """`entmax15_loss` as a module."""

    def __init__(
        self,
        k: int | None = 100,
        ignore_index: int = -100,
        reduction: str = "elementwise_mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.k = k

    def loss(self, X: Scores, target: Tensor) -> Tensor:  # noqa: N803
        """Loss of every row."""
        return entmax15_loss(X, target, self.k, self.ignore_index)


class EntmaxBisectLoss(_Reduced):
    """`entmax_bisect_loss` as a module; an `nn.Parameter` as `alpha` is registered, and learned."""

    def __init__(
        self,
        alpha: float | Tensor = 1.5,
        n_iter: int = 50,
        ignore_index: int = -100,
        reduction: str = "elementwise_mean",
    ) -> None:
        super().__init__(ignore_index, reduction)
        self.alpha = alpha
        self.n_iter = n_iter

    def loss(self, X: Scores, target: Tensor) -> Tensor:  # noqa: N803
        """Loss of every row."""
        return entmax_bisect_loss(X, target, self.alpha, self.n_iter, self.ignore_index)
