r"""What a schedule would do to the rows of an attention, and what linear response predicts.

To first order in the sparsity, $\log$ of the effective support falls by the susceptibility
$\chi = S V - \kappa_3/2$ times $\zeta$: docs/derivations/gibbs.md#susceptibility.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._dispatch import Backend
from gibbsian._typing import Mask
from gibbsian.attention.aes.sparsities import scheduled
from gibbsian.attention.inputs import AttentionInputs, checked_inputs
from gibbsian.attention.rows import runs_compiled
from gibbsian.normalizers.fused import fused_entmax
from gibbsian.observables.blocks import query_blocks, streamed_statistics
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SparsityResponse:
    """One number for each row, each (batch, heads, queries); 0 in a row without keys."""

    statistics: GibbsStatistics
    """Of the softmax rows, before sparsity."""
    zeta: Float[Tensor, "batch heads queries"]
    """Sparsity that the schedule gives the row, in [0, 1]."""
    support_size: Float[Tensor, "batch heads queries"]
    """Number of keys with a weight > 0."""
    entropy: Float[Tensor, "batch heads queries"]
    r"""Shannon entropy $S_\zeta$ of the sparse row, in $[0, \log \text{support\_size}]$."""

    @property
    def effective_support(self) -> Tensor:
        r"""$e^{S_\zeta}$: how many equal keys would have this entropy; 0 in an empty row."""
        return torch.where(self.support_size > 0, self.entropy.exp(), 0.0)

    @property
    def predicted_support(self) -> Tensor:
        r"""$e^{S - \zeta (S V - \kappa_3/2)}$, of first order in zeta; 0 in an empty row.

        Not bounded by 1 from below: how far it misses is what it is compared for.
        """
        response = self.zeta * self.statistics.susceptibility
        predicted = (self.statistics.entropy - response).exp()
        return torch.where(self.statistics.num_states > 0, predicted, 0.0)


@torch.no_grad()
def sparsity_response(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    schedule: Callable[[GibbsStatistics], Tensor],
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    backend: Backend = "auto",
) -> SparsityResponse:
    r"""Sparsity, support and Shannon entropy of the rows that `aes_attention` would mix with.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        schedule: as of `aes_attention`; `Constant(zeta=...)` for one sparsity.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.
        backend: "auto", "reference" (plain torch) or "cpu" (compiled kernels).

    Returns:
        `SparsityResponse` without a graph, in float32 or wider.

    Raises:
        ArgumentError: inputs that do not fit, or a schedule whose sparsities do not have the shape
            of the rows.
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        O(queries keys head_dim) time, two passes over the scores. Memory is linear in the length:
        the compiled kernels hold a tile of scores, the reference a block of queries.

    References:
        docs/derivations/gibbs.md#susceptibility.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        query, key = query.detach().to(wide), key.detach().to(wide)
        inputs = checked_inputs(
            query,
            key,
            key,
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )
        statistics = streamed_statistics(inputs, backend)
        zeta = scheduled(schedule, statistics).detach().to(wide)
        if runs_compiled(inputs, backend):
            # numba takes half a second to import: only where it is used
            from gibbsian.observables.cpu.sparse_entropy import sparse_entropies  # noqa: PLC0415

            entropy, support_size = sparse_entropies(inputs, zeta)
        else:
            entropy, support_size = _in_blocks(inputs, zeta)
    return SparsityResponse(
        statistics=statistics, zeta=zeta, support_size=support_size, entropy=entropy
    )


def _in_blocks(inputs: AttentionInputs, zeta: Tensor) -> tuple[Tensor, Tensor]:
    entropy, support_size = torch.zeros_like(zeta), torch.zeros_like(zeta)
    for part, block in query_blocks(inputs):
        weights = fused_entmax(block.scores(), zeta[..., part].unsqueeze(-1))
        entropy[..., part] = torch.special.entr(weights).sum(dim=-1).clamp_min(0.0)
        support_size[..., part] = (weights > 0).sum(dim=-1).to(zeta)
    return entropy, support_size
