r"""Varentropy as the row's susceptibility to sparsity, $dS_\zeta/d\zeta = -S V + \kappa_3/2$."""

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.heads import MODELS, missing_weights, real_layers
from gibbsian.experiments.claims.intervals import mean_correlation, mean_of, rank_correlation
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.normalizers import entmax
from gibbsian.normalizers.schedules import entropy_response
from gibbsian.statistics import GibbsStatistics, gibbs_statistics

DERIVATIVE_ERROR = 1e-3
USEFUL_ERROR, USEFUL_ZETA = 0.1, 0.1
ZETAS = (0.0003, 0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)
STATES = (10, 100, 1000)
SPREAD = 2.0
LEAST_KEYS = 64
RESPONSIVE = 1e-3
"""Rows that answer to sparsity less than this (nats a unit of zeta) have no relative error."""


def entropy_at(scores: Float[Tensor, "rows states"], zeta: float) -> Float[Tensor, "rows"]:
    """Shannon entropy of entmax rows, nats."""
    p = entmax(scores, zeta)
    entropy: Tensor = -torch.special.xlogy(p, p).sum(dim=-1)
    return entropy


def slope_at_zero(scores: Tensor, statistics: GibbsStatistics) -> Tensor:
    """One-sided difference of S_zeta at 0, extrapolated; zeta cannot be negative."""
    step = 1e-4
    ratios = [(entropy_at(scores, h) - statistics.entropy) / h for h in (step, step / 2, step / 4)]
    first, second = 2 * ratios[1] - ratios[0], 2 * ratios[2] - ratios[1]
    return (4 * second - first) / 3


class _Rows:
    """What a set of rows did at every sparsity."""

    def __init__(self, scores: Float[Tensor, "rows states"]) -> None:
        self.statistics = gibbs_statistics(scores)
        chi = self.statistics.susceptibility
        measured = slope_at_zero(scores, self.statistics)
        self.responsive = chi > RESPONSIVE
        self.derivative_error = ((measured + chi).abs() / chi.clamp_min(RESPONSIVE))[
            self.responsive
        ]
        entropies, supports = [], []
        for zeta in ZETAS:
            p = entmax(scores, zeta)
            entropies.append(-torch.special.xlogy(p, p).sum(dim=-1))
            supports.append((p > 0).sum(dim=-1).double())
        self.entropy = torch.stack(entropies)
        self.support = torch.stack(supports)
        zetas = torch.tensor(ZETAS, dtype=scores.dtype)[:, None]
        drop = self.statistics.entropy - self.entropy
        self.drop = drop
        self.drop_error = (zetas * chi / drop.clamp_min(1e-12) - 1).abs()
        predicted = entropy_response(self.statistics, zetas)
        self.law_error = (predicted / drop.clamp_min(1e-12) - 1).abs()
        self.effective_error = (
            (self.statistics.entropy - zetas * chi - self.entropy).exp() - 1
        ).abs()
        self.support_ratio = self.support / (self.statistics.entropy - zetas * chi).exp()

    def range_of(self, error: Tensor) -> float:
        """Median over responsive rows of the largest zeta up to which the error is below 10 %."""
        good = (error[:, self.responsive] < USEFUL_ERROR).int().cummin(dim=0).values
        table = torch.tensor((0.0, *ZETAS), dtype=torch.float64)
        return float(table[good.sum(dim=0)].median())


def _real_rows(model: str, length: int, window: int, per_head: int) -> dict[int, Tensor]:
    """Rows of all heads by number of keys seen, at least `LEAST_KEYS`."""
    positions = torch.linspace(LEAST_KEYS, length - 1, per_head).long()
    found: dict[int, list[Tensor]] = {}
    for layer in real_layers(model, length, window):
        scores = layer.scores(positions)
        for row, position in enumerate(positions.tolist()):
            seen = position + 1 if layer.causal else scores.shape[-1]
            found.setdefault(seen, []).append(scores[:, row, :seen])
    return {seen: torch.cat(rows) for seen, rows in found.items()}


def measure(size: Size, seed: int) -> Measured:
    """Gaussian rows, and rows of every head of two pretrained models."""
    seeds, count = (3, 50) if size == "quick" else (8, 200)
    length, windows, per_head = (128, 2, 2) if size == "quick" else (512, 4, 6)
    samples: dict[str, list[_Rows]] = {}
    for i in range(seeds):
        generator = torch.Generator().manual_seed(seed + i)
        for states in STATES:
            scores = SPREAD * torch.randn(count, states, generator=generator, dtype=torch.float64)
            samples.setdefault(f"Gaussian, n = {states}", []).append(_Rows(scores))
    missing = missing_weights(*MODELS)
    for model in () if missing else MODELS:
        for window in range(windows):
            rows = _real_rows(model, length, window, per_head)
            samples.setdefault(model, []).append(_Merged([_Rows(x) for x in rows.values()]))
    numbers = {}
    for name, found in samples.items():
        over = "seeds" if name.startswith("Gaussian") else "stretches of text"
        for label, values in {
            "median relative error of the derivative": [
                rows.derivative_error.median().item() for rows in found
            ],
            "ζ up to which the first order is within 10 %": [
                rows.range_of(rows.drop_error) for rows in found
            ],
            "ζ up to which exp(S - ζχ) is within 10 %": [
                rows.range_of(rows.effective_error) for rows in found
            ],
            "ζ up to which χ (e^(2Sζ) - 1)/2S is within 10 %": [
                rows.range_of(rows.law_error) for rows in found
            ],
            "median support over exp(S - ζχ) at ζ = 0.1": [
                rows.support_ratio[ZETAS.index(0.1)].median().item() for rows in found
            ],
        }.items():
            numbers[f"{label}, {name}"] = mean_of(values, over)
        numbers[f"rank correlation of V with the entropy removed at ζ = 0.1, {name}"] = (
            mean_correlation(
                [
                    rank_correlation(
                        rows.statistics.varentropy.tolist(), rows.drop[ZETAS.index(0.1)].tolist()
                    )
                    for rows in found
                ],
                over,
            )
        )
    return Measured(
        numbers=numbers,
        scale=f"Gaussian scores of deviation {SPREAD:g}, {seeds} seeds of {count} rows"
        + (
            ""
            if missing
            else f"; {' and '.join(MODELS)}, all heads, {windows} stretches of {length} tokens "
            f"(MiniLM at most 512), {per_head} rows a head with at least {LEAST_KEYS} keys"
        )
        + "; float64",
        pictures=_pictures(samples),
        missing=missing,
    )


class _Merged(_Rows):
    """Several sets of rows as one."""

    def __init__(self, parts: list[_Rows]) -> None:
        self.statistics = GibbsStatistics(
            **{
                name: torch.cat([getattr(part.statistics, name) for part in parts])
                for name in GibbsStatistics.__dataclass_fields__
            }
        )
        for name in ("responsive", "derivative_error"):
            setattr(self, name, torch.cat([getattr(part, name) for part in parts]))
        for name in (
            "entropy",
            "support",
            "drop",
            "drop_error",
            "law_error",
            "effective_error",
            "support_ratio",
        ):
            setattr(self, name, torch.cat([getattr(part, name) for part in parts], dim=1))


def _pictures(samples: dict[str, list[_Rows]]) -> tuple[Picture, ...]:
    def medians(name: str, error: str) -> Series:
        rows = samples[name][0]
        table = getattr(rows, error)[:, rows.responsive]
        return Series(name=name, x=floats(ZETAS), y=floats(table.median(dim=1).values))

    def panel(title: str, error: str, label: str = "median relative error") -> Panel:
        return Panel(
            title=title,
            x_label="sparsity ζ",
            y_label=label,
            x_scale="log",
            y_scale="log",
            series=tuple(medians(name, error) for name in samples),
        )

    curves = Picture(
        name="range",
        caption="How far the linear response reaches: median relative error of the entropy that is "
        "removed (first order; with the exponential factor), and of the effective support.",
        panels=(
            panel("entropy removed, ζ χ", "drop_error"),
            panel("entropy removed, χ (e^(2Sζ) - 1)/2S", "law_error"),
            panel("effective support, exp(S - ζ χ)", "effective_error"),
        ),
    )
    rows = samples[list(samples)[-1]][0]
    varentropy = rows.statistics.varentropy
    edges = varentropy.quantile(torch.linspace(0, 1, 11, dtype=varentropy.dtype))
    decile = torch.bucketize(varentropy, edges[1:-1])
    middle = [varentropy[decile == k].median().item() for k in range(10)]
    shown = (0.01, 0.03, 0.1, 0.3)

    def by_decile(table: Tensor) -> tuple[Series, ...]:
        return tuple(
            Series(
                name=f"ζ = {zeta:g}",
                x=floats(middle),
                y=floats(table[ZETAS.index(zeta)][decile == k].median().item() for k in range(10)),
            )
            for zeta in shown
        )

    deciles = Picture(
        name="varentropy",
        caption=f"{list(samples)[-1]}: rows by decile of their varentropy. Left: the entropy that "
        "a sparsity removes. Right: measured support over the predicted effective support.",
        panels=(
            Panel(
                title="entropy removed",
                x_label="varentropy V, nats²",
                y_label="S - S_ζ, nats",
                series=by_decile(rows.drop),
            ),
            Panel(
                title="support over exp(S - ζ χ)",
                x_label="varentropy V, nats²",
                y_label="ratio",
                y_scale="log",
                series=by_decile(rows.support_ratio),
            ),
        ),
    )
    return curves, deciles


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    derivative = {n: e for n, e in numbers.items() if n.startswith("median relative error")}
    worst = max(derivative.values(), key=lambda e: e.high)
    if not worst.high < DERIVATIVE_ERROR:
        return "does not hold", f"The derivative is off by {worst.high:.1e} (relative)."
    label = "ζ up to which the first order is within 10 %, "
    ranges = {n.removeprefix(label): e for n, e in numbers.items() if n.startswith(label)}
    said = ", ".join(f"{e.value:.3g} ({name})" for name, e in ranges.items())
    if min(e.low for e in ranges.values()) >= USEFUL_ZETA:
        return "holds", f"The derivative to {worst.high:.1e}; within 10 % up to ζ = {said}."
    return "holds with a correction", (
        f"As a derivative, to {worst.high:.1e}; as a prediction it is within 10 % only up to "
        f"ζ = {said}."
    )


RULE = (
    "Does not hold unless the median relative error of the derivative is below 0.1 % (upper end) "
    "on every kind of row. Holds if, besides, the entropy removed is predicted within 10 % for the "
    "median row up to zeta = 0.1 (lower end) on every kind of row; with a correction if the range "
    "is shorter."
)

CLAIM = Claim(
    id="G1",
    statement="dS/dζ = -(S V - κ₃/2) at ζ = 0: varentropy decides whether sparsity matters, and "
    "the effective support is about exp(S - ζ(S V - κ₃/2))",
    source="This package's formulation of the AES note (low varentropy: fixed, high: dynamic)",
    how="Differences of the entropy of entmax rows at ζ near 0, and the range of ζ in which first "
    "order predicts it.",
    rule=RULE,
    paper="The note says it in words: low varentropy, fixed sparsity; high varentropy, dynamic.",
    measure=measure,
    judge=judge,
)
