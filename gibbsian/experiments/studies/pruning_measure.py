r"""Counting: how many keys a row must read under each filter.

Rows visit groups in the order of decreasing bound until no bound exceeds $m - 1/\zeta$, so that
they visit exactly the groups with $u > m - 1/\zeta$, m the true largest score. What the bounds
themselves cost is counted apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.attention.aes.certificates import certified_errors
from gibbsian.experiments.studies.pruning_filters import Filter
from gibbsian.experiments.studies.pruning_intervals import (
    Approximate,
    Interval,
    Known,
    merged_intervals,
    rounded_intervals,
)
from gibbsian.experiments.studies.pruning_sources import TILE, Rows
from gibbsian.normalizers import entmax
from gibbsian.normalizers.schedules import Linear
from gibbsian.statistics import GibbsStatistics, gibbs_statistics

SCHEDULE = Linear(low=0.2, high=0.9)
SPARSITIES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
SETTINGS = ("schedule", *(f"zeta {zeta}" for zeta in SPARSITIES))
FIXED = 3
"""The setting beside the schedule that is looked at row by row."""
CASCADE = "cascade"
"""A projection, then an 8-bit copy of the keys that it left."""
CASCADE_STAGES = ("d/2 directions, int8", "int8, centred")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Counts:
    """Means over the rows of one head, by filter and setting of `SETTINGS`."""

    visited: dict[str, Float[Tensor, "settings"]]
    """Keys whose scores are computed exactly, a row."""
    together: dict[str, Float[Tensor, "settings"]]
    """The same where a tile of rows visits what any of them needs; equal to it in decoding."""
    reads: dict[str, Float[Tensor, "settings"]]
    """Bounds and visited keys, in keys read by one row."""
    candidates: Float[Tensor, "settings"]
    """Keys with a score above the row's largest less 1/zeta."""
    rows: dict[str, Float[Tensor, "rows"]]
    """Under the schedule, for each row: zeta, entropy, varentropy, support, and for each filter
    the keys visited."""
    violations: int
    """Scores above their certified bound; 0."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Row:
    """What all filters share."""

    scores: Tensor
    visible: Tensor
    statistics: GibbsStatistics
    thresholds: Tensor
    """(settings, rows, 1)."""


def count(rows: Rows, filters: Sequence[Filter], *, tiled: bool) -> Counts:
    """Count for every filter and setting; `tiled`: rows are runs of `TILE` neighbours."""
    shared = _prepare(rows)
    statistics = shared.statistics
    zeta = SCHEDULE(statistics)
    candidates = [shared.scores > threshold for threshold in shared.thresholds]
    per_row = {
        "zeta": zeta,
        "entropy": statistics.entropy,
        "varentropy": statistics.varentropy,
        "keys": statistics.num_states,
        "candidates": candidates[0].sum(dim=1).float(),
        f"candidates, {SETTINGS[FIXED]}": candidates[FIXED].sum(dim=1).float(),
        "support": (entmax(shared.scores, zeta.unsqueeze(1)) > 0).sum(dim=1).float(),
    }
    tallies = {filter_.name: _Tally() for filter_ in filters}
    bounding: dict[str, Tensor] = {}
    violations = 0
    kept: dict[str, list[Tensor]] = {}
    for filter_ in filters:
        _, upper = filter_.bounds(rows.queries)
        if filter_.groups is None:
            sizes = shared.visible.float()
            exceeded = shared.scores > upper
        else:
            sizes = _sizes(rows, filter_.groups)
            exceeded = shared.scores > upper[:, filter_.groups]
        violations += int(exceeded.sum())
        upper = torch.where(sizes > 0, upper, -torch.inf)
        # groups of which a row sees no key need no bound
        bounding[filter_.name] = filter_.reads * (sizes > 0).float().mean()
        needed = [upper > threshold for threshold in shared.thresholds]
        tallies[filter_.name].add(needed, sizes, tiled=tiled)
        if filter_.name in CASCADE_STAGES:
            kept[filter_.name] = needed
    first, second = (kept[name] for name in CASCADE_STAGES)
    both = [a & b for a, b in zip(first, second, strict=True)]
    tallies[CASCADE] = _Tally()
    tallies[CASCADE].add(both, shared.visible.float(), tiled=tiled)
    reads = {name: bounding[name] + tallies[name].visited for name in bounding}
    costs = {filter_.name: filter_.reads / len(rows.keys) for filter_ in filters}
    survivors = torch.stack([needed.sum(dim=1).float().mean() for needed in first])
    projected, copied = (costs[name] for name in CASCADE_STAGES)
    seen = statistics.num_states.mean()
    reads[CASCADE] = projected * seen + copied * survivors + tallies[CASCADE].visited
    per_row |= {name: tally.scheduled for name, tally in tallies.items()}
    return Counts(
        visited={name: tally.visited for name, tally in tallies.items()},
        together={name: tally.together for name, tally in tallies.items()},
        reads=reads,
        candidates=torch.stack([each.sum(dim=1).float().mean() for each in candidates]),
        rows=per_row,
        violations=violations,
    )


def _prepare(rows: Rows) -> _Row:
    visible = torch.arange(len(rows.keys)) <= rows.last.unsqueeze(1)
    scores = (rows.queries @ rows.keys.T).masked_fill(~visible, -torch.inf)
    statistics = gibbs_statistics(scores)
    sparsities = [SCHEDULE(statistics)]
    sparsities += [torch.full_like(statistics.entropy, zeta) for zeta in SPARSITIES]
    thresholds = statistics.max_score - 1 / torch.stack(sparsities)
    return _Row(
        scores=scores,
        visible=visible,
        statistics=statistics,
        thresholds=thresholds.unsqueeze(2),
    )


def _sizes(rows: Rows, groups: Tensor) -> Tensor:
    """How many keys of each group a row sees."""
    number = int(groups.max()) + 1
    seen, index = rows.last.unique(return_inverse=True)
    counts = torch.stack([groups[: last + 1].bincount(minlength=number) for last in seen.tolist()])
    return counts[index].float()


class _Tally:
    """Visited keys of one filter, by setting."""

    visited: Tensor
    together: Tensor
    scheduled: Tensor
    """Of each row, in the first setting."""

    def add(self, needed: Sequence[Tensor], sizes: Tensor, *, tiled: bool) -> None:
        each = [(need * sizes).sum(dim=1) for need in needed]
        self.scheduled = each[0]
        self.visited = torch.stack([row.mean() for row in each])
        self.together = self.visited
        if tiled:
            self.together = torch.stack([_together(need, sizes) for need in needed])


def _together(needed: Tensor, sizes: Tensor) -> Tensor:
    rows, groups = needed.shape
    size = min(TILE, rows)
    union = needed.view(rows // size, size, groups).any(dim=1)
    # the last row of a tile sees the most
    return (union * sizes.view(rows // size, size, groups)[:, -1]).sum(dim=1).mean()


def certified_reads(
    rows: Rows, filter_: Filter, tolerances: Sequence[float]
) -> dict[str, Float[Tensor, "rows"]]:
    """What certifies the schedule's sparsity, for each row.

    Keys or groups are visited in the order of decreasing bound. `zeta +- t`: the visits after which
    zeta is known to +- t and nothing outside can be a candidate. `width of zeta`: of its certified
    interval when exactly the keys above the true threshold are visited; of S and of V likewise.
    """
    shared = _prepare(rows)
    scores = shared.scores.double()
    lower, upper = (bound.double() for bound in filter_.bounds(rows.queries))
    groups = filter_.groups
    sizes = shared.visible.double() if groups is None else _sizes(rows, groups).double()
    upper = torch.where(sizes > 0, upper, -torch.inf)
    order = upper.argsort(dim=1, descending=True)
    ground = shared.statistics.max_score.double().unsqueeze(1)
    inside = _moments(scores - ground, groups, sizes.shape[1])
    inside = [_visited(moment.gather(1, order)) for moment in inside]
    sizes_sorted = sizes.gather(1, order)
    rest = _remaining(sizes_sorted)
    up = (upper - ground).gather(1, order)
    down = torch.where(sizes > 0, lower - ground, torch.inf).gather(1, order)
    if groups is None:
        entropy, varentropy = _by_error(inside, up, down)
    else:
        entropy, varentropy = _by_weight(inside, up, down, sizes_sorted, rest)
    log_states = shared.statistics.num_states.double().log().unsqueeze(1)
    ends = [_sparsity(bound / log_states) for bound in (entropy.high, entropy.low)]
    zeta = Interval(low=ends[0], high=ends[1])
    # what is left must lie below the threshold of the smallest sparsity still possible
    next_bound = torch.cat([up, torch.full_like(up[:, :1], -torch.inf)], dim=1)
    outside = next_bound <= -1 / zeta.low
    used = torch.cat([torch.zeros_like(sizes[:, :1]), sizes_sorted.cumsum(dim=1)], dim=1)
    result = {}
    for tolerance in tolerances:
        certain = outside & (zeta.width <= 2 * tolerance)
        certain[:, -1] = True
        first = certain.int().argmax(dim=1, keepdim=True)
        result[f"zeta +- {tolerance}"] = used.gather(1, first).squeeze(1).float()
    threshold = shared.thresholds[0].double() - ground
    steps = (up > threshold).sum(dim=1, keepdim=True)
    for name, interval in (("zeta", zeta), ("S", entropy), ("V", varentropy)):
        result[f"width of {name}"] = interval.width.gather(1, steps).squeeze(1).float()
    truth = shared.statistics.entropy.double()
    found = entropy.low.gather(1, steps).squeeze(1), entropy.high.gather(1, steps).squeeze(1)
    result["holds"] = ((found[0] <= truth + 1e-4) & (truth - 1e-4 <= found[1])).float()
    return result


def copy_certificates(rows: Rows, filter_: Filter) -> dict[str, Float[Tensor, "rows"]]:
    """What a copy of single keys says of S and sqrt(V) by itself: truly, and with certainty."""
    shared = _prepare(rows)
    lower, upper = (bound.double() for bound in filter_.bounds(rows.queries))
    near = ((lower + upper) / 2).masked_fill(~shared.visible, -torch.inf)
    doubt = ((upper - lower) / 2).masked_fill(~shared.visible, 0.0)
    truth, found = gibbs_statistics(shared.scores.double()), gibbs_statistics(near)
    square = (near.softmax(dim=1) * doubt.square()).sum(dim=1)
    certified = certified_errors(found.varentropy, square, doubt.amax(dim=1))
    return {
        "bound of a score's error": doubt.sum(dim=1) / shared.visible.sum(dim=1),
        "error of S": (found.entropy - truth.entropy).abs(),
        "certified error of S": certified[0],
        "error of sqrt(V)": (found.varentropy.sqrt() - truth.varentropy.sqrt()).abs(),
        "certified error of sqrt(V)": certified[1],
    }


def _sparsity(normalized_entropy: Tensor) -> Tensor:
    position = (SCHEDULE.high - normalized_entropy) / (SCHEDULE.high - SCHEDULE.low)
    return position.clamp(0.0, 1.0)


def _moments(excess: Tensor, groups: Tensor | None, number: int) -> list[Tensor]:
    """Sums of w x^k of each group, k = 0 to 4 and w = e^x."""
    finite = torch.where(excess.isfinite(), excess, 0.0)
    moments = [excess.exp()]
    for _ in range(4):
        moments.append(moments[-1] * finite)
    if groups is None:
        return moments
    empty = torch.zeros(len(excess), number, dtype=excess.dtype)
    return [empty.index_add(1, groups, moment) for moment in moments]


def _visited(moment: Tensor) -> Tensor:
    """Sums over the first 0, 1, 2 ... groups."""
    return torch.cat([torch.zeros_like(moment[:, :1]), moment.cumsum(dim=1)], dim=1)


def _remaining(moment: Tensor) -> Tensor:
    """Sums over what is left after the first 0, 1, 2 ... groups, without cancellation."""
    left = moment.flip(1).cumsum(dim=1).flip(1)
    return torch.cat([left, torch.zeros_like(moment[:, :1])], dim=1)


def _statistics(moments: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    total = moments[0].clamp_min(torch.finfo(moments[0].dtype).tiny)
    mean, square = moments[1] / total, moments[2] / total
    return total.log(), total.log() - mean, (square - mean.square()).clamp_min(0.0)


def _by_weight(
    inside: Sequence[Tensor], up: Tensor, down: Tensor, sizes: Tensor, rest: Tensor
) -> tuple[Interval, Interval]:
    log_partition, entropy, varentropy = _statistics(inside)
    smallest = down.flip(1).cummin(dim=1).values.flip(1)
    end = torch.zeros_like(up[:, :1])
    known = Known(
        log_partition=log_partition,
        entropy=entropy,
        varentropy=varentropy,
        rest=rest,
        log_low=_remaining(sizes * down.clamp_max(700).exp().where(sizes > 0, 0.0)).log(),
        log_high=_remaining(sizes * up.exp()).log(),
        largest=torch.cat([up, end], dim=1),
        smallest=torch.cat([smallest, end], dim=1),
    )
    return merged_intervals(known)


def _by_error(inside: Sequence[Tensor], up: Tensor, down: Tensor) -> tuple[Interval, Interval]:
    middle = torch.where(up.isfinite(), (up + down) / 2, -torch.inf)
    error = torch.where(up.isfinite(), (up - down) / 2, 0.0)
    near = _moments(middle, None, 0)
    whole = [a + _remaining(b) for a, b in zip(inside, near, strict=True)]
    _, entropy, varentropy = _statistics(whole)
    m1, m2, m3, m4 = (moment / whole[0] for moment in whole[1:])
    fourth = m4 - 4 * m1 * m3 + 6 * m1.square() * m2 - 3 * m1**4
    largest = error.flip(1).cummax(dim=1).values.flip(1)
    return rounded_intervals(
        Approximate(
            entropy=entropy,
            varentropy=varentropy,
            fourth_moment=fourth.clamp_min(0.0),
            square=_remaining(near[0] * error.square()) / whole[0],
            error=torch.cat([largest, torch.zeros_like(up[:, :1])], dim=1),
        )
    )
