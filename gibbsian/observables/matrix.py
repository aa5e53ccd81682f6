r"""The matrix P of an attention as an operator: its products with vectors, never the matrix.

$P v$ is the attention with the values v. It is linear in them, so $P^\top u$ is the gradient of
$u \cdot P v$ in v.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gibbsian._dispatch import Backend
from gibbsian._errors import ArgumentError
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.attention.rows import rows_of, runs_compiled
from gibbsian.normalizers.fused import fused_entmax
from gibbsian.numerics.masked import working_dtype
from gibbsian.observables.blocks import query_blocks
from gibbsian.observables.rows import diagonal_mass

VectorMap = Callable[[Tensor], Tensor]
"""A linear map from (batch, heads, n) to (batch, heads, m)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionMatrix:
    """Rows entmax(scores, zeta) of every sample and head."""

    inputs: AttentionInputs
    """Checked, without dropout, in float32 or wider, a key head for each query head; its values are
    not looked at."""
    zeta: Float[Tensor, "batch heads queries"]
    """Sparsity of each row, in [0, 1]."""
    backend: Backend = "auto"
    """Which implementation forms the products."""

    @classmethod
    def of(
        cls, inputs: AttentionInputs, zeta: float | Tensor = 0.0, backend: Backend = "auto"
    ) -> "AttentionMatrix":
        """The matrix of a call.

        Args:
            inputs: checked; keys may be grouped.
            zeta: a number in [0, 1] or a tensor broadcastable to (batch, heads, queries).
            backend: of the products.

        Raises:
            ArgumentError: zeta out of range or of another shape.
        """
        dtype = working_dtype(inputs.query)
        query, key = inputs.query.detach().to(dtype), inputs.key.detach().to(dtype)
        if inputs.group > 1:
            # a key head meets other vectors for each query head that it serves
            key = key.repeat_interleave(inputs.group, dim=1)
        return cls(
            inputs=replace(inputs, query=query, key=key, value=key, dropout_p=0.0),
            zeta=row_sparsity(zeta, query),
            backend=backend,
        )

    @property
    def size(self) -> tuple[int, int]:
        """Queries and keys."""
        return self.inputs.query.shape[2], self.inputs.key.shape[2]

    def product(
        self, vector: Float[Tensor, "batch heads keys"]
    ) -> Float[Tensor, "batch heads queries"]:
        """P v, as an attention of one channel."""
        values = replace(self.inputs, value=vector.to(self.inputs.query).unsqueeze(-1))
        if runs_compiled(values, self.backend):
            return rows_of(values, self.backend).mix(self.zeta)[0].squeeze(-1)
        return torch.cat(
            [block.mix(p).squeeze(-1) for block, p, _ in _weights(values, self.zeta)], -1
        )

    def transposed_product(self) -> VectorMap:
        """The map from u (batch, heads, queries) to its product with the transposed matrix."""
        value = torch.zeros_like(self.inputs.key[..., :1]).requires_grad_()
        inputs = replace(self.inputs, value=value)
        if runs_compiled(inputs, self.backend):
            with torch.enable_grad():
                mixed = rows_of(inputs, self.backend).mix(self.zeta)[0]

            def by_gradient(vector: Tensor) -> Tensor:
                upstream = vector.to(mixed).unsqueeze(-1)
                (gradient,) = torch.autograd.grad(mixed, value, upstream, retain_graph=True)
                return gradient.squeeze(-1)

            return by_gradient

        def in_blocks(vector: Tensor) -> Tensor:
            total = torch.zeros_like(value[..., 0]).detach()
            for _, weights, part in _weights(self.inputs, self.zeta):
                total += torch.einsum("bhq,bhqk->bhk", vector[..., part].to(weights), weights)
            return total

        return in_blocks

    def diagonal(self) -> Float[Tensor, "batch heads both"]:
        """Weight of key i for query i; as many as the shorter side."""
        both = min(self.size)
        if not bool(self.zeta.any()) and runs_compiled(self.inputs, self.backend):
            statistics = rows_of(self.inputs, self.backend).statistics(detach=True)
            return diagonal_mass(self.inputs, statistics)[..., :both]
        parts = [
            weights.diagonal(part.start, dim1=-2, dim2=-1)
            for _, weights, part in _weights(self.inputs, self.zeta)
            if part.start < both
        ]
        return torch.cat(parts, dim=-1) if parts else self.zeta[..., :0]

    def visibility(
        self,
    ) -> tuple[Bool[Tensor, "batch heads queries"], Bool[Tensor, "batch heads keys"], bool]:
        """Queries that see some key, keys that some query sees, and whether j > i is never seen."""
        batch, heads = self.inputs.query.shape[:2]
        queries, keys = self.size
        if self.inputs.mask is None:
            sees = self.zeta.new_ones(batch, heads, queries, dtype=torch.bool)
            seen = self.zeta.new_ones(batch, heads, keys, dtype=torch.bool)
            if self.inputs.is_causal:
                seen[..., queries:] = False
            return sees & (keys > 0), seen & (queries > 0), self.inputs.is_causal
        rows, triangular = [], True
        seen = self.zeta.new_zeros(batch, heads, keys, dtype=torch.bool)
        for part, block in query_blocks(self.inputs):
            # never None: the call has a mask
            mask = self.zeta.new_ones(1, 1, 1, 1).bool() if block.mask is None else block.mask
            mask = mask.expand(-1, -1, -1, keys)
            rows.append(mask.any(dim=-1).expand(batch, heads, part.stop - part.start))
            seen = seen | mask.any(dim=-2)
            # of one row for all queries, the first block sees the first query's
            triangular = triangular and not bool(mask.triu(part.start + 1).any())
        return torch.cat(rows, dim=-1) if rows else self.zeta.bool(), seen, triangular


def _weights(
    inputs: AttentionInputs, zeta: Tensor
) -> Iterator[tuple[AttentionInputs, Tensor, slice]]:
    for part, block in query_blocks(inputs):
        weights = fused_entmax(block.scores(), zeta[..., part].unsqueeze(-1))
        yield block, weights, part


def row_sparsity(
    zeta: float | Tensor, query: Float[Tensor, "batch heads queries head_dim"]
) -> Float[Tensor, "batch heads queries"]:
    """Sparsity of each row of a call, checked, in the dtype of the query.

    Raises:
        ArgumentError: outside [0, 1], or not broadcastable to (batch, heads, queries).
    """
    if not isinstance(zeta, Tensor):
        zeta = query.new_tensor(zeta)
    if not bool(((zeta >= 0) & (zeta <= 1)).all()):
        raise ArgumentError(
            f"`zeta` must lie in [0, 1] (alpha in [1, 2]), got values from {float(zeta.min())} "
            f"to {float(zeta.max())}. 0 is softmax, 1 is sparsemax."
        )
    try:
        return zeta.detach().to(query).expand(query.shape[:3])
    except RuntimeError:
        raise ArgumentError(
            f"`zeta` must broadcast to (batch, heads, queries) {tuple(query.shape[:3])}, got "
            f"{tuple(zeta.shape)}. One a head is `zeta[:, None]`."
        ) from None
