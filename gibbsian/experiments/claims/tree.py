r"""Attention is the gradient of a free energy, and its partial sums merge in any tree.

$F(\xi) = -\log \sum_a e^{q \cdot k_a + \xi \cdot v_a}$. The algebra only: the shards are slices of
one tensor in one process, and a sum over shards stands for an all-reduce.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.intervals import largest_of, mean_of
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.normalizers import entmax
from gibbsian.statistics import GibbsStatistics, gibbs_statistics

IDENTITY = 1e-10
MOST_STEPS = 30
ZETAS = (0.1, 0.3, 0.5, 1.0)
SHARDS = 16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """What a shard knows: largest score, sum of weights, weighted sum of values."""

    maximum: Tensor
    total: Tensor
    mixed: Tensor


def part_of(scores: Tensor, values: Tensor) -> Part:
    """Of one shard of keys."""
    maximum = scores.max()
    weights = (scores - maximum).exp()
    return Part(maximum=maximum, total=weights.sum(), mixed=weights @ values)


def merge(a: Part, b: Part) -> Part:
    """Of the union of two shards: associative and commutative."""
    maximum = torch.maximum(a.maximum, b.maximum)
    wa, wb = (a.maximum - maximum).exp(), (b.maximum - maximum).exp()
    return Part(
        maximum=maximum, total=wa * a.total + wb * b.total, mixed=wa * a.mixed + wb * b.mixed
    )


def random_tree(parts: list[Part], generator: torch.Generator) -> Part:
    """Merge pairs in random order until one is left."""
    parts = list(parts)
    while len(parts) > 1:
        i, j = torch.randperm(len(parts), generator=generator)[:2].tolist()
        merged = merge(parts[i], parts[j])
        parts = [part for k, part in enumerate(parts) if k not in {i, j}] + [merged]
    return parts[0]


def sharded_entmax(shards: list[Tensor], zeta: float) -> tuple[list[Tensor], int, int]:
    r"""Entmax of scores that no process holds together.

    The largest score is one all-reduce. Then Newton steps on $\sum_j [1 + \zeta(x_j - c)]^{1/\zeta}
    = 1$, from the left and so monotone, each one all-reduce of two sums. A shard without a score
    above $\max x - 1/\zeta$ holds no support and stays silent.

    Returns:
        Probabilities of each shard, the number of steps, and of silent shards.
    """
    maximum = torch.stack([shard.max() for shard in shards]).max()
    level = maximum.clone()
    silent = sum(bool(shard.max() <= maximum - 1 / zeta) for shard in shards)
    for steps in range(1, MOST_STEPS + 1):  # noqa: B007  (returned)
        bases = [(1 + zeta * (shard - level)).clamp_min(0) for shard in shards]
        total = torch.stack([(base ** (1 / zeta)).sum() for base in bases]).sum()
        slope = torch.stack([(base[base > 0] ** (1 / zeta - 1)).sum() for base in bases]).sum()
        # Newton on the 1/zeta-norm of the bases, which is convex: fewer steps than on the sum
        change = total ** (1 - zeta) * (total**zeta - 1) / (zeta * slope)
        level = level + change
        if abs(float(change)) < 1e-13 * max(1.0, abs(float(level))):
            break
    return [(1 + zeta * (s - level)).clamp_min(0) ** (1 / zeta) for s in shards], steps, silent


def measure(size: Size, seed: int) -> Measured:
    """Random keys and values in random shards."""
    seeds, keys, trees = (4, 500, 3) if size == "quick" else (10, 20_000, 10)
    head_dim = 32
    errors: dict[str, list[float]] = {}
    steps: dict[float, list[float]] = {}
    silent: dict[float, list[float]] = {}
    for i in range(seeds):
        generator = torch.Generator().manual_seed(seed + i)
        query, *rest = torch.randn(
            2 * keys + 1, head_dim, generator=generator, dtype=torch.float64
        ).split([1, keys, keys])
        key, value = rest
        scores = 3 * (key @ query[0]) / head_dim**0.5
        flat = scores.softmax(-1) @ value
        source = torch.zeros(head_dim, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad((scores + value @ source).logsumexp(-1), source)
        note = {"gradient of log Z against attention": (gradient - flat).abs().max().item()}
        for _ in range(trees):
            cuts = torch.randperm(keys - 1, generator=generator)[: SHARDS - 1].sort().values + 1
            shards = scores.tensor_split(cuts)
            parts = [part_of(s, v) for s, v in zip(shards, value.tensor_split(cuts), strict=True)]
            root = random_tree(parts, generator)
            for name, found in {
                "tree against flat": (root.mixed / root.total - flat).abs().max().item(),
                "statistics, tree against flat": _statistics_error(list(shards), scores),
            }.items():
                note[name] = max(note.get(name, 0.0), found)
        for zeta in ZETAS:
            probs, count, quiet = sharded_entmax(list(shards), zeta)
            error = (torch.cat(probs) - entmax(scores, zeta)).abs().max().item()
            key_name = "entmax from all-reduced sums against entmax"
            note[key_name] = max(note.get(key_name, 0.0), error)
            steps.setdefault(zeta, []).append(count)
            silent.setdefault(zeta, []).append(quiet / SHARDS)
        for name, error in note.items():
            errors.setdefault(name, []).append(error)
    numbers = {f"largest difference, {name}": largest_of(found) for name, found in errors.items()}
    numbers |= {f"Newton steps, zeta {z:g}": mean_of(found) for z, found in steps.items()}
    numbers |= {f"silent shards, zeta {z:g}": mean_of(found) for z, found in silent.items()}
    return Measured(
        numbers=numbers,
        scale=f"{seeds} seeds, {keys} keys in {SHARDS} shards of random sizes, {trees} random "
        "trees, float64, one process (no messages are sent)",
        pictures=(_picture(numbers),),
    )


def _statistics_error(shards: list[Tensor], scores: Tensor) -> float:
    merged: GibbsStatistics = gibbs_statistics(shards[0])
    for shard in shards[1:]:
        merged = merged.merge(gibbs_statistics(shard))
    flat = gibbs_statistics(scores)
    return max(
        float((getattr(merged, name) - getattr(flat, name)).abs())
        for name in ("log_partition", "entropy", "varentropy", "third_cumulant")
    )


def _picture(numbers: Numbers) -> Picture:
    def series(name: str, key: str) -> Series:
        found = [numbers[f"{key}, zeta {zeta:g}"] for zeta in ZETAS]
        return Series(
            name=name,
            x=floats(ZETAS),
            y=floats(e.value for e in found),
            low=floats(e.low for e in found),
            high=floats(e.high for e in found),
        )

    panels = []
    for (title, key), label in zip(
        (("all-reduces of the threshold", "Newton steps"), ("silent shards", "silent shards")),
        ("Newton steps", "part of the shards"),
        strict=True,
    ):
        panels.append(
            Panel(title=title, x_label="sparsity ζ", y_label=label, series=(series(title, key),))
        )
    return Picture(
        name="threshold",
        caption="What the threshold of entmax costs when the keys are spread over shards.",
        panels=tuple(panels),
    )


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    plain = max(
        numbers[f"largest difference, {name}"].value
        for name in (
            "gradient of log Z against attention",
            "tree against flat",
            "statistics, tree against flat",
        )
    )
    deformed = numbers["largest difference, entmax from all-reduced sums against entmax"].value
    steps = max(e.high for name, e in numbers.items() if name.startswith("Newton"))
    if plain >= IDENTITY:
        return "does not hold", f"Trees and gradients differ from attention by {plain:.1e}."
    if deformed >= IDENTITY or steps >= MOST_STEPS:
        return "holds with a correction", (
            f"For softmax (to {plain:.1e}); sharded entmax is {deformed:.1e} off after "
            f"{steps:.0f} steps."
        )
    return "holds", (
        f"Gradient and trees are attention to {plain:.1e}; sharded entmax to {deformed:.1e} in at "
        f"most {steps:.0f} all-reduced Newton steps. Algebra in one process; no messages measured."
    )


RULE = (
    "Holds if the gradient of the free energy and every random tree of merges equal flat attention "
    "within 1e-10 in float64, and entmax by all-reduced Newton sums equals entmax within 1e-10 in "
    "fewer than 30 steps. With a correction if only softmax does. Otherwise it does not hold."
)

CLAIM = Claim(
    id="E3",
    statement="Attention is the gradient of a free energy; its partial sums merge associatively, "
    "hence over any tree (the algebra)",
    source="Tree attention, Shyam et al. 2024",
    how="Random trees over random shards against flat attention, and automatic differentiation of "
    "log Z in a source; the threshold of entmax from sums over shards.",
    rule=RULE,
    paper="Stated as an identity, for softmax. Processes and bytes are not measured here.",
    measure=measure,
    judge=judge,
)
