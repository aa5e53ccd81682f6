"""How the kernels see an attention's inputs: units, tiles, scratch space.

A unit is one key head of one sample, with all the queries that it serves as its rows (head by head
where queries are grouped). A tile is a few consecutive rows of a unit with their scores for all
keys: the largest thing that a worker holds.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gibbsian.attention.cpu.strided import booleans
from gibbsian.numerics.cpu.jit import kernel
from gibbsian.numerics.cpu.matmul import multiply, pack_transposed
from gibbsian.numerics.cpu.simd import KEY_BLOCK, LANES, PANEL, TILE_ROWS
from gibbsian.numerics.cpu.threads import num_workers, run

_TILE_BYTES = 1 << 20
_LEAST_ROWS, _MOST_ROWS = 16, 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Sizes of a call."""

    units: int
    key_heads: int
    """Units of a sample."""
    queries: int
    """Queries of a head; a unit's row r is query r % queries of its head r // queries."""
    rows: int
    """Queries of a unit."""
    keys: int
    head_dim: int
    """Padded: of the kernels' rows of queries and keys, a multiple of `LANES`."""
    value_dim: int
    """Padded, of values."""
    is_causal: bool
    scale: float

    @property
    def padded_keys(self) -> int:
        """Columns of a tile of scores."""
        return -(-self.keys // KEY_BLOCK) * KEY_BLOCK

    @property
    def tile_rows(self) -> int:
        """Rows of a tile, a multiple of `TILE_ROWS`."""
        fitting = _TILE_BYTES // (4 * self.padded_keys)
        rows = min(max(fitting, _LEAST_ROWS), _MOST_ROWS, self.rows)
        return -(-rows // TILE_ROWS) * TILE_ROWS

    @property
    def tiles(self) -> int:
        """Tiles of a unit."""
        return -(-self.rows // self.tile_rows)

    @property
    def splits(self) -> int:
        """Parts of a unit's tiles in a backward pass, each with gradients of its own to add up.

        More than one only where there are fewer units than threads.
        """
        return min(self.tiles, -(-num_workers(self.tiles) // self.units))


def problem_of(query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float) -> Problem:
    """Sizes of a call with (batch, heads, length, dim) inputs."""
    batch, heads, queries, head_dim = query.shape
    key_heads, keys = key.shape[1:3]
    return Problem(
        units=batch * key_heads,
        key_heads=key_heads,
        queries=queries,
        rows=heads // key_heads * queries,
        keys=keys,
        head_dim=-(-head_dim // LANES) * LANES,
        value_dim=-(-value.shape[-1] // LANES) * LANES,
        is_causal=is_causal,
        scale=scale,
    )


def unit_rows(tensor: Tensor, rows: int, columns: int) -> Any:
    """(batch, heads, length, dim) as a float32 array (units, rows, columns), filled up with 0."""
    flat = tensor.detach().to(torch.float32).reshape(-1, rows, tensor.shape[-1])
    if columns > flat.shape[-1]:
        flat = torch.nn.functional.pad(flat, (0, columns - flat.shape[-1]))
    return flat.contiguous().numpy()


def like(rows: Any, tensor: Tensor) -> Tensor:
    """Inverse of `unit_rows`: an array (units, >= rows, >= columns) in the shape of `tensor`."""
    units, length = rows.shape[0], math.prod(tensor.shape[:-1]) // rows.shape[0]
    result = torch.from_numpy(rows[:units, :length, : tensor.shape[-1]])
    return result.reshape(tensor.shape).to(tensor.dtype).contiguous()


def summed(parts: Any) -> Any:
    """Sum over the first dimension, in place."""
    for part in parts[1:]:
        parts[0] += part
    return parts[0]


def row_numbers(tensor: Tensor, problem: Problem) -> Any:
    """(batch, heads, queries) as a float32 array (units, rows)."""
    flat = tensor.detach().to(torch.float32).reshape(problem.units, problem.rows)
    return flat.contiguous().numpy()


def transposed_panels(matrices: Any, padded_rows: int) -> Any:
    """The transpose of each matrix (units, rows, columns) in panels, for `multiply`."""
    units, _, columns = matrices.shape
    panels = np.empty((units, padded_rows // PANEL, columns, PANEL), np.float32)
    run(_pack_unit, units, matrices, panels)
    return panels


@kernel
def _pack_unit(task: int, worker: int, matrices: Any, panels: Any) -> None:
    pack_transposed(matrices[task], panels[task])


def scratch(workers: int, *shape: int) -> Any:
    """Uninitialised float32 space for each worker."""
    return np.empty((workers, *shape), np.float32)


@kernel
def visible_keys(row: int, queries: int, keys: int, is_causal: bool) -> int:
    """How many keys causality lets a unit's row see: the first ones."""
    return min(keys, row % queries + 1) if is_causal else keys


class ScoreSource(NamedTuple):
    """What the scores of a call are made of, as the kernels take it."""

    query: Any
    """(units, rows, head_dim)."""
    panels: Any
    """The keys of each unit, transposed: see `transposed_panels`."""
    mask: Any
    """Bytes, and their `strides` in four dimensions; empty where there is no mask."""
    strides: Any
    key_heads: int
    queries: int
    keys: int
    is_causal: bool
    scale: Any
    """float32."""


def score_source(problem: Problem, query: Tensor, keys: Any, mask: Tensor | None) -> ScoreSource:
    """Of a call, with `keys` the `unit_rows` of its keys."""
    mask_bytes, strides = booleans(mask, 4)
    return ScoreSource(
        query=unit_rows(query, problem.rows, problem.head_dim),
        panels=transposed_panels(keys, problem.padded_keys),
        mask=mask_bytes,
        strides=strides,
        key_heads=problem.key_heads,
        queries=problem.queries,
        keys=problem.keys,
        is_causal=problem.is_causal,
        scale=np.float32(problem.scale),
    )


@kernel
def tile_scores(
    source: ScoreSource, unit: int, first: int, count: int, scaled: Any, scores: Any
) -> int:
    """Writes the scores of a unit's rows first .. first + count, -inf where a key is absent.

    `scaled` receives the tile's queries times the scale, `scores` (tile_rows, padded_keys) the
    scores; register tiles are filled up with queries of 0.

    Returns:
        How many columns were written, a multiple of `KEY_BLOCK`: none further is visible.
    """
    query, queries, keys = source.query[unit], source.queries, source.keys
    mask, strides = source.mask, source.strides
    depth = query.shape[1]
    extent = 0
    for i in range(count):
        extent = max(extent, visible_keys(first + i, queries, keys, source.is_causal))
        for k in range(depth):
            scaled[i, k] = query[first + i, k] * source.scale
    padded_count = -(-count // TILE_ROWS) * TILE_ROWS
    for i in range(count, padded_count):
        for k in range(depth):
            scaled[i, k] = np.float32(0)
    extent = -(-extent // KEY_BLOCK) * KEY_BLOCK
    multiply(
        scaled.ctypes.data,
        depth,
        1,
        source.panels[unit].ctypes.data,
        depth * PANEL,
        PANEL,
        scores.ctypes.data,
        scores.shape[1],
        padded_count,
        depth,
        extent,
        0,
    )
    for i in range(count):
        row = first + i
        for j in range(visible_keys(row, queries, keys, source.is_causal), extent):
            scores[i, j] = np.float32(-np.inf)
        if mask.size > 0:
            head = unit % source.key_heads * (query.shape[0] // queries) + row // queries
            start = unit // source.key_heads * strides[0]
            start += head * strides[1] + row % queries * strides[2]
            for j in range(min(extent, keys)):
                absent = mask[start + j * strides[3]] == 0
                scores[i, j] = np.float32(-np.inf) if absent else scores[i, j]
    return extent
