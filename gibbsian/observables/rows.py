r"""What every row of an attention does, without ever holding all the scores.

A linear functional of a row, $\sum_j p_{ij} f_j$, is an attention with the values $f$: the mean
position of the attended keys costs one pass of the fused attention. The weight of one key needs its
score and log Z only. Derivation: docs/derivations/gibbs.md#row-observables.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._dispatch import Backend
from gibbsian._typing import Mask
from gibbsian.attention.inputs import AttentionInputs, checked_inputs
from gibbsian.attention.rows import rows_of, runs_compiled
from gibbsian.normalizers import softmax
from gibbsian.observables.blocks import BlockStatistics, query_blocks
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RowObservables:
    """One number for each attention row, each (batch, heads, queries); 0 in a row without keys."""

    statistics: GibbsStatistics
    """S, V, kappa_3, log Z, F, U, effective support, normalised entropy, susceptibility."""
    sink_mass: Float[Tensor, "batch heads queries"]
    """Weight of the first key that the row sees, in [0, 1]."""
    diagonal_mass: Float[Tensor, "batch heads queries"]
    """Weight of the query's own position, key i for query i, in [0, 1]; 0 where it is not seen."""
    attended_distance: Float[Tensor, "batch heads queries"]
    r"""$\sum_j p_{ij} |i - j|$ in positions, in [0, keys)."""


@torch.no_grad()
def row_observables(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch key_heads keys head_dim"],
    *,
    mask: Mask | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    backend: Backend = "auto",
) -> RowObservables:
    r"""Statistics, sink and diagonal mass, and mean attended distance of every softmax row.

    $$p_{ij} = e^{x_{ij}}/Z_i, \quad x_{ij} = \text{scale}\; q_i \cdot k_j; \qquad
      \text{sink}_i = p_{i f(i)}, \quad \text{diagonal}_i = p_{ii}, \quad
      \text{distance}_i = \sum_j p_{ij} |i - j|$$

    with f(i) the first key that row i sees. Query i stands at the position of key i, as for
    `is_causal`, whatever the two lengths.

    Args:
        query: scores are scale * query . key.
        key: grouped: key_heads may divide heads when `enable_gqa`.
        mask: True = may attend; broadcastable to (batch, heads, queries, keys).
        is_causal: query i sees keys 0..i; together with `mask`, both must allow a key.
        scale: factor of the scores; None = 1/sqrt(head_dim).
        enable_gqa: let key_heads divide heads.
        backend: "auto", "reference" (plain torch) or "cpu" (compiled kernels); see
            docs/usage/backends.md.

    Returns:
        `RowObservables` without a graph, in float32 or wider.

    Raises:
        ArgumentError: inputs that do not fit (`gibbsian.attention.inputs`).
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        O(queries keys head_dim) time: two passes over the scores (two and two halves without
        `is_causal`). Memory is linear in the length: the compiled kernels hold a tile of scores,
        the reference a block of queries. In float32 the distance is good to about 1e-6 of the
        number of keys.

    References:
        docs/derivations/gibbs.md#row-observables. The first key as a sink: Xiao et al. 2023,
        Efficient streaming language models with attention sinks.
    """
    # positions are rounded in half precision
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        query, key = query.detach().to(wide), key.detach().to(wide)
        inputs = checked_inputs(
            query,
            key,
            _positions(key),
            mask=mask,
            is_causal=is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )
        if runs_compiled(inputs, backend):
            statistics, distance = _streamed(inputs, backend)
        else:
            statistics, distance = _in_blocks(inputs)
        return RowObservables(
            statistics=statistics,
            sink_mass=_sink_mass(inputs, statistics),
            diagonal_mass=diagonal_mass(inputs, statistics),
            attended_distance=distance,
        )


def _positions(key: Tensor) -> Tensor:
    """Values that are the keys' positions, and 1, (batch, key_heads, keys, 2)."""
    batch, heads, keys = key.shape[:3] if key.dim() == 4 else (1, 1, 0)
    position = torch.arange(keys, device=key.device, dtype=key.dtype)
    pairs = torch.stack([position, torch.ones_like(position)], dim=-1)
    return pairs.expand(batch, heads, keys, 2)


def _streamed(inputs: AttentionInputs, backend: Backend) -> tuple[GibbsStatistics, Tensor]:
    statistics, mean = _mean_position(inputs, backend)
    own = torch.arange(inputs.query.shape[2], device=mean.device, dtype=mean.dtype)
    if inputs.is_causal:
        distance = own - mean
    else:
        # |i - j| = (j - i) + 2 (i - j) [j <= i]: the second term is a causal attention's
        past, past_mean = _mean_position(replace(inputs, is_causal=True), backend)
        share = (past.max_score - statistics.max_score) + (
            past.min_entropy - statistics.min_entropy
        )
        share = torch.where(past.num_states > 0, share, -torch.inf).exp()
        distance = mean - own + 2 * share * (own - past_mean)
    return statistics, torch.where(statistics.num_states > 0, distance.clamp_min(0.0), 0.0)


def _mean_position(inputs: AttentionInputs, backend: Backend) -> tuple[GibbsStatistics, Tensor]:
    rows = rows_of(inputs, backend)
    statistics = rows.statistics(detach=True)
    moment, total = rows.mix(torch.zeros_like(statistics.entropy))[0].unbind(dim=-1)
    # the weights' sum is off by a few roundings, and a position may be large
    return statistics, moment / torch.where(total > 0, total, 1.0)


def _in_blocks(inputs: AttentionInputs) -> tuple[GibbsStatistics, Tensor]:
    statistics = BlockStatistics(inputs)
    distance = inputs.query.new_zeros(inputs.query.shape[:3])
    keys = torch.arange(inputs.key.shape[2], device=inputs.query.device)
    for part, block in query_blocks(inputs):
        own = torch.arange(part.start, part.stop, device=keys.device)
        scores = block.scores()
        statistics.add(part, scores)
        gaps = (own.unsqueeze(-1) - keys).abs().to(scores)
        distance[..., part] = torch.einsum("bhqk,qk->bhq", softmax(scores), gaps)
    return statistics.all(), distance


def _first_seen(inputs: AttentionInputs) -> Tensor:
    """Index of the first key that each row sees (batch, heads or 1, queries or 1).

    Causality takes away later keys only, so the mask alone decides.
    """
    batch, mask = inputs.query.shape[0], inputs.mask
    if mask is None or mask.shape[3] == 1:
        return torch.zeros(batch, 1, 1, dtype=torch.long, device=inputs.query.device)
    # the first of several largest is the one that is returned
    return mask.view(torch.uint8).argmax(dim=-1).expand(batch, -1, -1)


def _sink_mass(inputs: AttentionInputs, statistics: GibbsStatistics) -> Tensor:
    """Weight of each row's first key; one key at a time is fetched, never a row of scores."""
    batch, heads = inputs.query.shape[:2]
    if inputs.key.shape[2] == 0:
        return torch.zeros_like(statistics.entropy)
    first = _first_seen(inputs).expand(batch, heads, -1)
    device = first.device
    sample = torch.arange(batch, device=device)[:, None, None]
    key_head = torch.arange(heads, device=device)[None, :, None] // inputs.group
    fetched = inputs.key[sample, key_head, first]
    scores = (inputs.query * fetched).sum(dim=-1) * inputs.scale
    return _mass(scores, statistics)


def diagonal_mass(inputs: AttentionInputs, statistics: GibbsStatistics) -> Tensor:
    """Weight of key i in the softmax row i, (batch, heads, queries); 0 where there is none."""
    batch, heads, queries, _ = inputs.query.shape
    keys = inputs.key.shape[2]
    both = min(queries, keys)
    query = inputs.query[:, :, :both].unflatten(1, (inputs.key.shape[1], inputs.group))
    scores = (query * inputs.key[:, :, None, :both]).sum(dim=-1).flatten(1, 2) * inputs.scale
    if inputs.mask is not None:
        seen = inputs.mask.expand(batch, heads, queries, keys).diagonal(dim1=-2, dim2=-1)
        scores = scores.masked_fill(~seen, -torch.inf)
    scores = torch.nn.functional.pad(scores, (0, queries - both), value=-torch.inf)
    return _mass(scores, statistics)


def _mass(scores: Tensor, statistics: GibbsStatistics) -> Tensor:
    """Weight of the key with this score in every row; from differences, exact at any offset."""
    occupied = statistics.num_states > 0
    level = torch.where(occupied, statistics.max_score, 0.0)
    mass = (scores - level - statistics.min_entropy).exp().clamp_max(1.0)
    return torch.where(occupied, mass, 0.0)
