"""Everything that is measured of one attention layer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.integrations.transformers import AttentionCall
from gibbsian.normalizers.schedules import Schedule
from gibbsian.observables import (
    eigenvalue_gap,
    head_agreement,
    head_temperatures,
    row_observables,
    singular_gap,
    sparsity_response,
)

ROW_NAMES = (
    "entropy",
    "normalized_entropy",
    "varentropy",
    "third_cumulant",
    "log_partition",
    "free_energy",
    "internal_energy",
    "effective_support",
    "sink_mass",
    "diagonal_mass",
    "attended_distance",
    "susceptibility",
    "zeta",
    "support_size",
    "sparse_effective_support",
    "predicted_support",
)
"""Numbers a row: columns of statistics.parquet, and maps of their means."""

HEAD_NAMES = (
    "agreement",
    "temperature",
    "lln_temperature",
    "cross_covariance",
    "eigenvalue_gap",
    "singular_gap",
)
"""Numbers a head: maps."""


_GAP_TOLERANCE = 1e-4
"""Of the residual: a map is read to two or three digits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LayerMeasures:
    """What one input does in one layer."""

    visible_keys: Tensor
    """Keys that each row sees, (heads, queries)."""
    rows: dict[str, Tensor]
    """By the names of `ROW_NAMES`, each (heads, queries)."""
    heads: dict[str, Tensor]
    """By the names of `HEAD_NAMES`, each (heads,); NaN where it means nothing."""


def measure_layer(
    call: AttentionCall, schedule: Schedule, *, gap_positions: int, agreement_rows: int
) -> LayerMeasures:
    """Measure one call of a batch of one; memory is linear in the length.

    Args:
        call: what the layer is asked to compute.
        schedule: of the sparsity that is tried on the rows.
        gap_positions: spectral gaps are those of the first so many positions; 0 = none.
        agreement_rows: heads are compared on so many rows, spread evenly.
    """
    arguments = call.arguments()
    observed = row_observables(call.query, call.key, **arguments)
    response = sparsity_response(call.query, call.key, schedule=schedule, **arguments)
    statistics = observed.statistics
    rows = {
        "entropy": statistics.entropy,
        "normalized_entropy": statistics.normalized_entropy,
        "varentropy": statistics.varentropy,
        "third_cumulant": statistics.third_cumulant,
        "log_partition": statistics.log_partition,
        "free_energy": statistics.free_energy,
        "internal_energy": statistics.internal_energy,
        "effective_support": statistics.effective_support,
        "sink_mass": observed.sink_mass,
        "diagonal_mass": observed.diagonal_mass,
        "attended_distance": observed.attended_distance,
        "susceptibility": statistics.susceptibility,
        "zeta": response.zeta,
        "support_size": response.support_size,
        "sparse_effective_support": response.effective_support,
        "predicted_support": response.predicted_support,
    }
    return LayerMeasures(
        visible_keys=statistics.num_states[0],
        rows={name: rows[name][0] for name in ROW_NAMES},
        heads=_head_measures(call, gap_positions, agreement_rows),
    )


def _head_measures(
    call: AttentionCall, gap_positions: int, agreement_rows: int
) -> dict[str, Tensor]:
    arguments = call.arguments()
    heads, queries = call.query.shape[1:3]
    temperatures = head_temperatures(call.query, call.key, **arguments)
    nothing = torch.full((heads,), math.nan)
    agreement = nothing
    if heads > 1:
        agreement = head_agreement(call.query, call.key, rows=agreement_rows, **arguments)[0]
    measures = {
        "agreement": agreement,
        "temperature": temperatures.softmax[0],
        "lln_temperature": temperatures.lln[0],
        "cross_covariance": temperatures.cross_covariance[0],
        "eigenvalue_gap": nothing,
        "singular_gap": nothing,
    }
    first = call.first(gap_positions)
    # a model that has diverged has no spectrum
    finite = first.query.isfinite().all() and first.key.isfinite().all()
    if gap_positions and queries == call.key.shape[2] and finite:
        for name, gap in (("eigenvalue_gap", eigenvalue_gap), ("singular_gap", singular_gap)):
            found = gap(first.query, first.key, tolerance=_GAP_TOLERANCE, **first.arguments())
            measures[name] = torch.where(found.converged, found.gap, math.nan)[0]
    return measures
