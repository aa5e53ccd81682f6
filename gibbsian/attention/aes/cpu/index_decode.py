r"""Decoding that reads a rounded copy of all keys, and exactly only those that can have weight."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.aes.certificates import certified_errors
from gibbsian.attention.aes.cpu.index_kernels import (
    UNSETTLED,
    approximate_stretches,
    merge_doubts,
    mix_candidates,
)
from gibbsian.attention.aes.key_index import KeyIndex
from gibbsian.attention.aes.sparsities import scheduled
from gibbsian.attention.cpu.few_queries import FewQueries
from gibbsian.attention.cpu.few_queries_kernels import STRETCH_MOMENTS
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.normalizers.schedules import Schedule
from gibbsian.numerics.cpu.simd import KEY_BLOCK
from gibbsian.numerics.cpu.threads import num_workers, run
from gibbsian.statistics import GibbsStatistics

_LARGEST_PART = 8
"""A row with more than one candidate in so many keys is read whole: in order that is faster."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Decoded:
    """What decoding found; every field but the first (batch, heads, queries)."""

    output: Tensor
    """(batch, heads, queries, value_dim) float32."""
    statistics: GibbsStatistics
    """Of all keys, within the tolerance."""
    zeta: Tensor
    """Sparsity."""
    support: Tensor
    """Number of keys with a weight."""
    visited: Tensor
    """Number of keys whose scores were computed exactly."""


def decode_with_index(
    inputs: AttentionInputs, schedule: Schedule, index: KeyIndex, tolerance: float
) -> Decoded:
    """Adaptive attention of few queries; entropy and sqrt(V) within `tolerance` nats.

    At the sparsity found, weights and output are those of the exact scores. The queries of a key
    head of which one is too broad, or cannot be certified, have all their keys read exactly.
    """
    rows = FewQueries(inputs)
    square, error = _approximate(rows, index)
    statistics = rows.merged()
    zeta = scheduled(schedule, statistics)
    errors = certified_errors(statistics.varentropy.double(), square, error)
    # written so that NaN is not certified
    certain = (errors[0] <= tolerance) & (errors[1] <= tolerance)
    reach = torch.where(certain, error, torch.inf).float()
    output, support, visited = _mix(rows, zeta, statistics.max_score, reach)
    each = rows.queries.shape[1]
    left = (support == UNSETTLED).view(-1, each).any(dim=1)
    if bool(left.any()):
        rows.score(left.nonzero().squeeze(1).numpy())
        statistics = rows.merged()
        zeta = scheduled(schedule, statistics)
        again = left.repeat_interleave(each).nonzero().squeeze(1)
        read, found = rows.mix_rows(zeta, statistics.max_score, again.numpy())
        output.view(-1, output.shape[-1])[again] = read
        support.view(-1)[again] = found
        visited.view(-1)[again] = rows.keys
    return Decoded(
        output=output, statistics=statistics, zeta=zeta, support=support, visited=visited
    )


def _approximate(rows: FewQueries, index: KeyIndex) -> tuple[Tensor, Tensor]:
    """Scores and moments by the index; what their certificate needs of each row."""
    owners, each, _ = rows.scores.shape
    batch = rows.shape[0]
    queries = torch.from_numpy(rows.queries).view(batch, owners // batch, each, -1)
    reach, room = index.reach(queries)
    offset = (queries @ index.centre.unsqueeze(3)).squeeze(3)
    numbers = torch.stack([offset, reach, room], dim=3).view(owners, each, 3)
    inner = (queries * index.channels.unsqueeze(2)).view(rows.queries.shape)
    doubts = np.empty((owners, each, rows.stretches, 2))
    tasks = owners * rows.stretches
    run(
        approximate_stretches,
        tasks,
        rows.stretches,
        rows.stretch,
        rows.owners,
        inner.numpy(),
        numbers.numpy(),
        index.codes.numpy(),
        index.scales.numpy(),
        index.errors.numpy(),
        *rows.mask,
        rows.group,
        rows.keys,
        np.empty((num_workers(tasks), KEY_BLOCK), np.float32),
        rows.scores,
        rows.moments,
        doubts,
    )
    merged = np.empty((2, owners * each))
    moments = rows.moments.reshape(owners * each, rows.stretches, STRETCH_MOMENTS)
    merge_doubts(moments, doubts.reshape(owners * each, rows.stretches, 2), merged)
    square, error = torch.from_numpy(merged).view(2, *rows.shape)
    return square, error


def _mix(
    rows: FewQueries, zeta: Tensor, largest: Tensor, error: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixed values, support sizes and visited keys where a row has few candidates."""
    count, padded = zeta.numel(), rows.scores.shape[2]
    workers = num_workers(count)
    output = np.empty((*rows.shape, rows.value_dim), np.float32)
    support, visited = np.empty(rows.shape, np.float32), np.empty(rows.shape, np.float32)
    run(
        mix_candidates,
        count,
        rows.owners,
        zeta.detach().float().contiguous().view(count).numpy(),
        largest.contiguous().view(count).numpy(),
        error.contiguous().view(count).numpy(),
        max(KEY_BLOCK, rows.keys // _LARGEST_PART),
        rows.queries,
        *rows.key,
        *rows.value,
        rows.scores.reshape(count, padded),
        np.empty((workers, padded), np.float32),
        np.empty((workers, padded), np.float32),
        np.empty((workers, padded), np.int32),
        output.reshape(count, rows.value_dim),
        support.reshape(count),
        visited.reshape(count),
    )
    return torch.from_numpy(output), torch.from_numpy(support), torch.from_numpy(visited)
