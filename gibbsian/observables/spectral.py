r"""How fast attention mixes: the spectral gap of its matrix, and the singular gap.

Both belong to one operator, P with its column means $\mu_j = \frac1N \sum_i P_{ij}$ taken out,

$$C = P - 1 \mu^\top = (I - \tfrac1N 1 1^\top) P.$$

Its eigenvalues are those of P with the eigenvalue 1 (of the vector 1) replaced by 0, and it is the
centred P whose rows' principal component Theorem 3.3 of the log-normal paper speaks of. Derivation:
docs/derivations/spectral.md.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gibbsian._dispatch import Backend
from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask
from gibbsian.attention.inputs import checked_inputs
from gibbsian.observables.blocks import without_autocast
from gibbsian.observables.krylov import dominant_eigenvalue
from gibbsian.observables.matrix import AttentionMatrix, VectorMap


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpectralGap:
    r"""One number for each sample and head (or for each matrix that was given), in float64."""

    magnitude: Float[Tensor, "*batch"]
    r"""$|\lambda_2|$ in [0, 1], or $\sigma_{max}(C)$ in $[0, \sqrt N]$."""
    residual: Float[Tensor, "*batch"]
    r"""$|C x - \lambda x|$ (or $|C^\top u - \sigma x|$) of the unit vector x that was found; 0
    where the result is exact."""
    converged: Bool[Tensor, "*batch"]
    """Whether the residual is within the tolerance; else `magnitude` is an estimate."""

    @classmethod
    def exact(cls, magnitude: Float[Tensor, "*batch"]) -> "SpectralGap":
        """A magnitude that no iteration has found; NaN does not count as converged."""
        magnitude = magnitude.double()
        return cls(
            magnitude=magnitude,
            residual=torch.zeros_like(magnitude),
            converged=~magnitude.isnan(),
        )

    @property
    def gap(self) -> Float[Tensor, "*batch"]:
        r"""$1 - |\lambda_2|$, or $1 - \sigma_{max}$, below 0 where the rows differ much."""
        return 1 - self.magnitude


@torch.no_grad()
@without_autocast
def eigenvalue_gap(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    zeta: float | Tensor = 0.0,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    tolerance: float = 1e-5,
    max_products: int = 128,
    backend: Backend = "auto",
) -> SpectralGap:
    r"""$\gamma = 1 - |\lambda_2|$ of every head's matrix P, which is never held.

    Args:
        query: scores are scale * query . key; as many as keys.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        zeta: sparsity of the rows: 0 softmax, a number in [0, 1] entmax, for AES the tensor that
            its statistics report; broadcastable to (batch, heads, queries).
        mask: True = may attend; broadcastable to (batch, heads, queries, keys). Positions that no
            query sees are deleted, as key and as query.
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.
        tolerance: largest residual, > 0. Below about 1e-6 float32 inputs do not converge.
        max_products: products with P at most; time and memory (this many vectors) grow with it.
        backend: of the products: "auto", "reference" (blocks of queries) or "cpu".

    Returns:
        `SpectralGap`. A single position has $\lambda_2 = 0$; a head with a NaN has NaN, not
        converged.

    Raises:
        ArgumentError: inputs that do not fit, another number of queries than keys, or a position
            that is seen but sees no key.

    Notes:
        Where no query sees a later key (causality, or a mask that says so) P is triangular, and its
        eigenvalues are its diagonal: exact, in one pass. Else Arnoldi's method on C, O(queries keys
        head_dim) a product, usually 10 to 60 of them. For a P far from normal the residual bounds
        the change of P that would make the result exact, not the error of the result. Start vectors
        are fixed: equal calls give equal results. Without a graph.

    References:
        Nahshan, Kampeas & Haleva, arXiv 2311.13541v4, section 3;
        docs/derivations/spectral.md#eigenvalue-gap.
    """
    _check(tolerance, max_products)
    inputs = checked_inputs(
        query, key, key, mask=mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
    )
    matrix = AttentionMatrix.of(inputs, zeta, backend)
    if matrix.size[0] != matrix.size[1]:
        raise ArgumentError(
            f"`query` must be as long as `key` for eigenvalues, got {matrix.size[0]} and "
            f"{matrix.size[1]}. A rectangular matrix has a `singular_gap`."
        )
    present, _, triangular = _positions(matrix)
    if triangular or matrix.size[0] == 0:
        return _of_diagonal(torch.where(present, matrix.diagonal(), 0.0))
    center = _centering(present)
    found = dominant_eigenvalue(
        lambda vector: center(matrix.product(vector)),
        center(_start(present, matrix)),
        tolerance=tolerance,
        max_products=max_products,
    )
    return SpectralGap(
        magnitude=found.value.abs(), residual=found.residual, converged=found.converged
    )


@torch.no_grad()
@without_autocast
def singular_gap(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    zeta: float | Tensor = 0.0,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    tolerance: float = 1e-5,
    max_products: int = 128,
    backend: Backend = "auto",
) -> SpectralGap:
    r"""$1 - \sigma_{max}(C)$ of every head's centred matrix $C = P - 1 \mu^\top$.

    $\sigma_{max}^2$ is the sum of squares of the rows of P along their major principal component.
    $|\lambda_2| \le \sigma_{max}$, with equality if C is normal.

    Args:
        query: scores are scale * query . key; any number.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        zeta: sparsity of the rows, as for `eigenvalue_gap`.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys). With as many
            queries as keys, positions that no query sees are deleted; else rows without keys.
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.
        tolerance: largest residual, > 0. Below about 1e-6 float32 inputs do not converge.
        max_products: products with P, and with its transpose, at most.
        backend: of the products: "auto", "reference" (blocks of queries) or "cpu".

    Returns:
        `SpectralGap`.

    Raises:
        ArgumentError: inputs that do not fit, or (queries as many as keys) a position that is seen
            but sees no key.

    Notes:
        Lanczos' method on $C^\top C$; the compiled product with the transposed matrix is the
        attention's own backward pass.

    References:
        Nahshan, Kampeas & Haleva, arXiv 2311.13541v4, Theorem 3.3;
        docs/derivations/spectral.md#singular-gap.
    """
    _check(tolerance, max_products)
    inputs = checked_inputs(
        query, key, key, mask=mask, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
    )
    matrix = AttentionMatrix.of(inputs, zeta, backend)
    present, seen, _ = _positions(matrix)
    if 0 in matrix.size:
        return SpectralGap.exact(query.new_zeros(query.shape[:2]))
    center, transposed = _centering(present), matrix.transposed_product()
    found = dominant_eigenvalue(
        lambda vector: transposed(center(matrix.product(vector))),
        _start(seen, matrix),
        tolerance=tolerance,
        max_products=max_products,
        squared=True,
    )
    return SpectralGap(
        magnitude=found.value.abs().sqrt(),
        residual=found.residual,
        converged=found.converged,
    )


@torch.no_grad()
def dense_spectral_gaps(
    weights: Float[Tensor, "*batch queries keys"],
) -> tuple[SpectralGap, SpectralGap]:
    """Both gaps of matrices that are at hand, by dense linear algebra: `(eigenvalue, singular)`.

    Args:
        weights: square, every row with sum 1.

    Raises:
        ArgumentError: not square, or rows that do not sum to 1.
    """
    if weights.shape[-1] != weights.shape[-2]:
        raise ArgumentError(
            f"`weights` must be square, got {weights.shape[-2]} x {weights.shape[-1]}. "
            "Queries and keys are the same positions."
        )
    sums = weights.sum(dim=-1)
    if not bool(((sums - 1).abs() <= weights.shape[-1] * torch.finfo(weights.dtype).eps * 8).all()):
        raise ArgumentError(
            f"`weights` must have rows that sum to 1, got sums from {float(sums.min())} to "
            f"{float(sums.max())}. Divide by `weights.sum(-1, keepdim=True)`."
        )
    if weights.shape[-1] == 0:
        return SpectralGap.exact(sums.sum(dim=-1)), SpectralGap.exact(sums.sum(dim=-1))
    weights = weights.double()
    centred = weights - weights.mean(dim=-2, keepdim=True)
    eigenvalues = torch.linalg.eigvals(centred).abs().amax(dim=-1)
    return SpectralGap.exact(eigenvalues), SpectralGap.exact(torch.linalg.svdvals(centred)[..., 0])


def _check(tolerance: float, max_products: int) -> None:
    for name, number in (("tolerance", tolerance), ("max_products", max_products)):
        if not number > 0:
            raise ArgumentError(
                f"`{name}` must be > 0, got {number}. Leave it out for the default."
            )


def _positions(matrix: AttentionMatrix) -> tuple[Tensor, Tensor, bool]:
    """Rows and columns that count, and whether the matrix is lower triangular."""
    sees, seen, triangular = matrix.visibility()
    if matrix.size[0] != matrix.size[1]:
        return sees, seen, False
    if not bool((sees | ~seen).all()):
        sample, head, position = (seen & ~sees).nonzero()[0].tolist()
        raise ArgumentError(
            f"`mask` must let every position that is seen see a key, got none for position "
            f"{position} of sample {sample}, head {head}. Let it see itself, or hide it from all."
        )
    return seen, seen, triangular


def _centering(present: Bool[Tensor, "batch heads n"]) -> VectorMap:
    """Subtraction of the mean over the present positions; the others are set to 0."""
    count = present.sum(dim=-1, keepdim=True).clamp_min(1)

    def center(vector: Tensor) -> Tensor:
        vector = torch.where(present, vector, 0.0)
        return torch.where(present, vector - vector.sum(dim=-1, keepdim=True) / count, 0.0)

    return center


def _start(present: Bool[Tensor, "batch heads n"], matrix: AttentionMatrix) -> Tensor:
    """Fixed, and without any symmetry that a matrix of attention might have."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(present.shape[-1], generator=generator, dtype=torch.float64)
    return torch.where(present, vector.to(matrix.inputs.query), 0.0)


def _of_diagonal(diagonal: Tensor) -> SpectralGap:
    if diagonal.shape[-1] < 2:
        return SpectralGap.exact(diagonal.new_zeros(diagonal.shape[:-1]))
    # the first present row sees itself only: one eigenvalue is 1
    second = diagonal.topk(2, dim=-1).values[..., 1]
    return SpectralGap.exact(torch.where(diagonal.isnan().any(dim=-1), torch.nan, second))
