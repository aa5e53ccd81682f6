r"""Both spectral gaps of linear attentions, exactly and in time linear in the length.

$P = D^{-1} \Phi_q \Phi_k^\top$ has the nonzero eigenvalues of the d x d matrix $\Phi_k^\top D^{-1}
\Phi_q$. Derivation: docs/derivations/spectral.md#linear.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian._typing import Mask
from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.lln.inputs import LLNInputs
from gibbsian.attention.lln.scales import default_scales
from gibbsian.attention.lln.state import finite, query_features
from gibbsian.observables.blocks import without_autocast
from gibbsian.observables.spectral import SpectralGap


@torch.no_grad()
def linear_spectral_gaps(
    query_features: Float[Tensor, "batch heads positions features"],
    key_features: Float[Tensor, "batch heads positions features"],
    present: Bool[Tensor, "#batch #heads positions"] | None = None,
) -> tuple[SpectralGap, SpectralGap]:
    r"""Eigenvalue and singular gap of an attention that is a product of features.

    $$P_{ij} = \frac{\phi_q(i) \cdot \phi_k(j)}{\sum_l \phi_q(i) \cdot \phi_k(l)}$$

    Args:
        query_features: $\Phi_q$; products with the sum of the keys' features must be > 0.
        key_features: $\Phi_k$.
        present: positions that are there, as query and as key. None = all.

    Returns:
        `(eigenvalue_gap, singular_gap)`, as `gibbsian.observables.spectral` defines them, without a
        graph.

    Raises:
        ArgumentError: a present row has no positive sum of weights.

    Notes:
        Exact: O(positions features^2) time, O(positions features) memory.

    References:
        docs/derivations/spectral.md#linear.
    """
    queries, keys = query_features.double(), key_features.double()
    if present is None:
        present = torch.ones(1, 1, queries.shape[-2], dtype=torch.bool, device=queries.device)
    there = present.expand(queries.shape[:3]).unsqueeze(-1)
    keys = torch.where(there, keys, 0.0)
    mass = keys.sum(dim=-2, keepdim=True)
    sums = (queries * mass).sum(dim=-1, keepdim=True)
    if not bool(((sums > 0) | ~there).all()):
        raise ArgumentError(
            "`query_features` must give every present row a positive sum of weights, got "
            f"{float(torch.where(there, sums, torch.inf).min())}. Use features that are > 0."
        )
    rows = torch.where(there, queries / torch.where(sums > 0, sums, 1.0), 0.0)
    if queries.shape[-2] == 0:
        nothing = SpectralGap.exact(sums.sum(dim=(-2, -1)))
        return nothing, nothing
    count = there.sum(dim=-2, keepdim=True).clamp_min(1)
    centred = torch.where(there, rows - rows.sum(dim=-2, keepdim=True) / count, 0.0)
    eigenvalues = torch.linalg.eigvals(keys.mT @ centred).abs().amax(dim=-1)
    left, right = torch.linalg.qr(centred, mode="r").R, torch.linalg.qr(keys, mode="r").R
    norm = torch.linalg.matrix_norm(left @ right.mT, ord=2)
    return SpectralGap.exact(eigenvalues), SpectralGap.exact(norm)


@torch.no_grad()
@without_autocast
def lln_spectral_gaps(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    query_scale: float | Tensor | None = None,
    key_scale: float | Tensor | None = None,
) -> tuple[SpectralGap, SpectralGap | None]:
    r"""Eigenvalue and singular gap of LLN attention, in time linear in the length.

    Args:
        query: as for `lln_attention`; as many as keys.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        mask: key padding, causal, or both. Absent positions are deleted.
        is_causal: query i sees keys 0..i.
        scale: factor of the softmax scores that LLN imitates; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.
        query_scale: $\alpha$, as for `lln_attention`; with neither scale both are matched.
        key_scale: $\beta$.

    Returns:
        `(eigenvalue_gap, singular_gap)`. Causal attention has no singular gap of linear cost: None.

    Raises:
        ArgumentError: as `lln_attention`, or another number of queries than keys.

    Notes:
        Exact, O(N head_dim^2) time; causal, where eigenvalues are the diagonal, O(N head_dim).

    References:
        Nahshan, Kampeas & Haleva, arXiv 2311.13541v4; docs/derivations/spectral.md#linear.
    """
    inputs = LLNInputs.of(
        checked_inputs(
            query.detach(),
            key.detach(),
            key.detach(),
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        ),
        backend="reference",
    )
    linear = inputs.mask
    if linear.queries != linear.keys:
        raise ArgumentError(
            f"`query` must be as long as `key` for eigenvalues, got {linear.queries} and "
            f"{linear.keys}. Give the whole sequence."
        )
    log_query, log_key = inputs.log_features(*default_scales(inputs, query_scale, key_scale))
    log_query, log_key = log_query.double(), log_key.double()
    present = linear.present
    if present is not None:
        log_key = torch.where(present.unsqueeze(-1), log_key, -torch.inf)
    if linear.causal_offset is not None:
        if linear.causal_offset != 0:
            raise ArgumentError(
                "`mask` must let query i see key i, got one that shifts queries by "
                f"{linear.causal_offset}. Pass `is_causal=True`."
            )
        magnitude = _causal_second_eigenvalue(log_query, log_key)
        return SpectralGap.exact(magnitude), None
    shift = finite(log_key.amax(dim=-2)) if linear.keys else log_key.sum(dim=-2)
    keys = (log_key - shift.unsqueeze(-2)).exp()
    return linear_spectral_gaps(query_features(log_query, shift), keys, present)


def _causal_second_eigenvalue(log_query: Tensor, log_key: Tensor) -> Tensor:
    """Second largest diagonal weight; the first present row sees itself only."""
    if log_key.shape[-2] < 2:
        return log_key.new_zeros(log_key.shape[:2])
    own = (log_query + log_key).logsumexp(dim=-1)
    past = (log_query + log_key.logcumsumexp(dim=-2)).logsumexp(dim=-1)
    diagonal = torch.where(own > -torch.inf, own - past, -torch.inf).exp()
    return diagonal.topk(2, dim=-1).values[..., 1]
