r"""Certified upper bounds of $q \cdot k_j$: which keys can be left out unseen.

A key with $x_j \le m - 1/\zeta$ has no weight (m the row's largest score). A filter bounds the
scores from above without reading the keys; a key (or a whole group of them) whose bound does not
exceed $m - 1/\zeta$ need not be visited. Every bound holds in floating point, whatever the keys.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_LLOYD_STEPS = 8
_CHUNK = 16384
_NUMBER = 4
"""Bytes of a float32."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Filter:
    """Bounds of the scores of groups of keys, or of single keys."""

    name: str
    """Kind and size, for tables."""
    reads: float
    """What a query reads to bound all keys, in keys (head_dim float32 numbers)."""
    groups: Int64[Tensor, "keys"] | None
    """Group of each key; None = each key is its own group."""
    bounds: Callable[[Tensor], tuple[Tensor, Tensor]]
    """From queries to the groups' certified (lower, upper) bounds, (queries, groups) each."""


def all_filters(keys: Float[Tensor, "keys head_dim"], seed: int) -> list[Filter]:
    """Every filter of the study, built on these keys."""
    count = len(keys)
    root = round(count**0.5)
    position = torch.arange(count)
    filters = []
    for name, size in (("blocks of 16", 16), ("blocks of 64", 64), ("blocks of sqrt n", root)):
        filters += grouped(name, keys, position // size)
    filters += grouped("sqrt n clusters", keys, cluster(keys, root, seed))
    filters.append(bfloat16_copy(keys))
    filters.append(integer_copy(keys, centred=False))
    filters.append(integer_copy(keys, centred=True))
    filters += [
        projection(keys, keys.shape[1] // 4, int8=False),
        projection(keys, keys.shape[1] // 2, int8=False),
        projection(keys, keys.shape[1] // 2, int8=True),
    ]
    return filters


def cluster(keys: Float[Tensor, "keys head_dim"], count: int, seed: int) -> Int64[Tensor, "keys"]:
    """Clusters by Lloyd's algorithm from `count` keys drawn at random; empty ones stay."""
    generator = torch.Generator().manual_seed(seed)
    centres = keys[torch.randperm(len(keys), generator=generator)[:count]]
    groups = _nearest(keys, centres)
    for _ in range(_LLOYD_STEPS):
        sums = torch.zeros_like(centres).index_add_(0, groups, keys)
        sizes = torch.bincount(groups, minlength=count).unsqueeze(1)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
        groups = _nearest(keys, centres)
    return groups


def _nearest(keys: Tensor, centres: Tensor) -> Tensor:
    half = centres.square().sum(dim=1) / 2
    return torch.cat([(part @ centres.T - half).argmax(dim=1) for part in keys.split(_CHUNK)])


def grouped(
    name: str, keys: Float[Tensor, "keys head_dim"], groups: Int64[Tensor, "keys"]
) -> list[Filter]:
    """The two bounds of a group: its coordinates' ranges (box), centroid and radius (ball)."""
    count, dim = int(groups.max()) + 1, keys.shape[1]
    index = groups.unsqueeze(1).expand_as(keys)
    empty = torch.full((count, dim), torch.inf)
    low = empty.scatter_reduce(0, index, keys, "amin")
    high = (-empty).scatter_reduce(0, index, keys, "amax")
    sizes = torch.bincount(groups, minlength=count).unsqueeze(1)
    occupied = sizes > 0
    low, high = torch.where(occupied, low, 0.0), torch.where(occupied, high, 0.0)
    centre = torch.zeros(count, dim).index_add_(0, groups, keys) / sizes.clamp_min(1)
    distance = torch.linalg.vector_norm(keys - centre[groups], dim=1)
    radius = torch.zeros(count).scatter_reduce(0, groups, distance, "amax")
    slack = _Slack(keys)

    def box(query: Tensor) -> tuple[Tensor, Tensor]:
        up, down = query.clamp_min(0), query.clamp_max(0)
        return slack.widen(query, up @ low.T + down @ high.T, up @ high.T + down @ low.T)

    def ball(query: Tensor) -> tuple[Tensor, Tensor]:
        middle, reach = query @ centre.T, _norm(query) * radius
        return slack.widen(query, middle - reach, middle + reach)

    ball_reads = count * (1 + 1 / dim)
    return [
        Filter(name=f"{name}, box", reads=2.0 * count, groups=groups, bounds=box),
        Filter(name=f"{name}, ball", reads=ball_reads, groups=groups, bounds=ball),
    ]


def bfloat16_copy(keys: Float[Tensor, "keys head_dim"]) -> Filter:
    r"""Keys rounded to bfloat16: $|x_j - \hat x_j| \le |q| |k_j - \hat k_j|$."""
    rounded = keys.bfloat16().float()
    reads = (2 * keys.shape[1] + _NUMBER) / (_NUMBER * keys.shape[1]) * len(keys)
    copy = _Copy(exact=keys, rounded=rounded, channels=torch.ones(keys.shape[1]), centre=None)
    return _approximate("bfloat16", reads, keys, copy)


def integer_copy(keys: Float[Tensor, "keys head_dim"], *, centred: bool, bits: int = 8) -> Filter:
    """Keys as integers with a scale each, and the norm of what rounding changed.

    Centred: the mean key is taken off, which shifts all scores of a query alike, and each channel
    is divided by its largest size, with which the query is multiplied instead.
    """
    dim = keys.shape[1]
    centre = keys.mean(dim=0) if centred else None
    inner = keys if centre is None else keys - centre
    channels = inner.abs().amax(dim=0).clamp_min(1e-30) if centred else torch.ones(dim)
    inner = inner / channels
    name = f"int{bits}, centred" if centred else f"int{bits}"
    reads = (dim * bits / 8 + 2 * _NUMBER) / (_NUMBER * dim) * len(keys)
    copy = _Copy(exact=inner, rounded=_integers(inner, bits), channels=channels, centre=centre)
    return _approximate(name, reads, keys, copy)


def _integers(values: Tensor, bits: int) -> Tensor:
    largest = 2 ** (bits - 1) - 1
    scale = values.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / largest
    rounded: Tensor = (values / scale).round() * scale
    return rounded


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Copy:
    """Keys less the centre, over the channels; what they were rounded to."""

    exact: Tensor
    rounded: Tensor
    channels: Tensor
    centre: Tensor | None


def _approximate(name: str, reads: float, keys: Tensor, copy: _Copy) -> Filter:
    error = torch.linalg.vector_norm(copy.exact - copy.rounded, dim=1)
    slack = _Slack(keys)

    def bounds(query: Tensor) -> tuple[Tensor, Tensor]:
        scaled = query * copy.channels
        middle = scaled @ copy.rounded.T
        if copy.centre is not None:
            middle += (query @ copy.centre).unsqueeze(1)
        reach = _norm(scaled) * error
        return slack.widen(query, middle - reach, middle + reach)

    return Filter(name=name, reads=reads, groups=None, bounds=bounds)


def projection(keys: Float[Tensor, "keys head_dim"], rank: int, *, int8: bool) -> Filter:
    r"""Leading principal directions of the keys; the rest by Cauchy and Schwarz.

    $$x_j \le q \cdot \bar k + (P q) \cdot (P (k_j - \bar k)) + |q_\perp| |k_{j\perp}|$$
    """
    dim = keys.shape[1]
    centre = keys.mean(dim=0)
    inner = keys - centre
    _, directions = torch.linalg.eigh(inner.T @ inner)
    basis = directions[:, -rank:]
    exact = inner @ basis
    rest = torch.linalg.vector_norm(inner - exact @ basis.T, dim=1)
    kept = _integers(exact, 8) if int8 else exact
    error = torch.linalg.vector_norm(exact - kept, dim=1)
    slack = _Slack(keys)

    def bounds(query: Tensor) -> tuple[Tensor, Tensor]:
        inside = query @ basis
        outside = _norm(query - inside @ basis.T)
        middle = inside @ kept.T + (query @ centre).unsqueeze(1)
        reach = outside * rest + _norm(inside) * error
        return slack.widen(query, middle - reach, middle + reach)

    width = rank + 3 * _NUMBER if int8 else _NUMBER * (rank + 1)
    name = f"d/{dim // rank} directions" + (", int8" if int8 else "")
    return Filter(name=name, reads=width / (_NUMBER * dim) * len(keys), groups=None, bounds=bounds)


def _norm(query: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(query, dim=1, keepdim=True)
    return norm


class _Slack:
    """Room for the rounding of a float32 product of head_dim terms, in score and in bound."""

    def __init__(self, keys: Tensor) -> None:
        largest = torch.linalg.vector_norm(keys, dim=1).max()
        self._room = 4 * (keys.shape[1] + 4) * torch.finfo(keys.dtype).eps * largest

    def widen(self, query: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        room = self._room * _norm(query)
        return lower - room, upper + room
