r"""Entropy grows with temperature (Thm 3.2), the variance of a row falls (Thm 3.4)."""

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.heads import MODELS, missing_weights, real_layers
from gibbsian.experiments.claims.intervals import (
    largest_of,
    mean_correlation,
    mean_of,
    rank_correlation,
)
from gibbsian.experiments.claims.matrices import gaussian_pair, mean_entropy, softmax_matrix
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.experiments.claims.pretraining import Probe, Shape, pretrain
from gibbsian.observables.spectral import dense_spectral_gaps
from gibbsian.observables.temperature import head_temperatures
from gibbsian.statistics import gibbs_statistics

ROUNDING = 1e-9
TEMPERATURES = torch.logspace(-1.5, 1.5, 31, dtype=torch.float64)
SIGMAS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
LN2 = 0.6931471805599453
LEAST_KEYS = 32
TRAINED: dict[Size, Shape] = {
    "quick": Shape(layers=2, width=32, heads=2, batch=4, steps=30, probe_every=10),
    "full": Shape(layers=3, width=96, heads=3, batch=8, steps=1500, probe_every=75),
}


def row_families(generator: torch.Generator, rows: int, states: int) -> dict[str, Tensor]:
    """Random rows of very different shapes."""
    normal = torch.randn(rows, states, generator=generator, dtype=torch.float64)
    other = torch.randn(rows, states, generator=generator, dtype=torch.float64)
    return {
        "Gaussian": normal,
        "heavy tails": normal / other.abs().clamp_min(1e-3),
        "two values": (normal > 1).double() * 5,
        "one large": torch.cat([normal[:, 1:] * 0.01, normal[:, :1] * 0 + 8], dim=1),
    }


def real_rows(model: str, length: int, per_head: int) -> Tensor:
    """Some rows of every head; -inf where a key is not seen."""
    positions = torch.linspace(LEAST_KEYS, length - 1, per_head).long()
    return torch.cat(
        [layer.scores(positions).flatten(0, 1) for layer in real_layers(model, length)]
    )


def swept(rows: Float[Tensor, "rows states"]) -> tuple[Tensor, Tensor]:
    """Entropy, and variance of the probabilities, of every row at every temperature."""
    entropies, variances = [], []
    for temperature in TEMPERATURES.tolist():
        found = gibbs_statistics(rows, temperature=temperature)
        entropies.append(found.entropy)
        # mean (p - 1/n)^2 = (sum p^2 - 1/n)/n
        variances.append(
            (found.collision_entropy.neg().exp() - 1 / found.num_states) / found.num_states
        )
    return torch.stack(entropies), torch.stack(variances)


def measure_entropy(size: Size, seed: int) -> Measured:
    """Sweeps of rows, matrices of growing sigma, temperatures across heads."""
    numbers, curves, scale, missing = _sweeps(size, seed, "entropy")
    seeds, count = (3, 128) if size == "quick" else (5, 512)
    by_sigma: dict[float, list[float]] = {}
    for i in range(seeds):
        generator = torch.Generator().manual_seed(seed + i)
        values = []
        for sigma in SIGMAS:
            matrix = softmax_matrix(*gaussian_pair(generator, count, 64, sigma))
            values.append(mean_entropy(matrix).item() / LN2)
            by_sigma.setdefault(sigma, []).append(values[-1])
        rises = [b - a for a, b in zip(values[1:], values[:-1], strict=True)]
        numbers.setdefault("drops", []).append(max(0.0, -min(rises)))
    found = {
        "largest fall of the entropy of a row when heated, nats": largest_of(
            numbers["rows"], "rows"
        ),
        "largest fall of the mean entropy with τ_sm, Gaussian matrices, bits": largest_of(
            numbers["drops"]
        ),
    }
    pictures = [
        Picture(
            name="sweep",
            caption="Mean entropy of rows against temperature, and of Gaussian matrices against "
            "τ_sm = 1/σ_sm.",
            panels=(
                Panel(
                    title="the same rows, heated",
                    x_label="temperature",
                    y_label="mean S / log n",
                    x_scale="log",
                    series=curves,
                ),
                Panel(
                    title=f"Gaussian queries and keys, N = {count}",
                    x_label="temperature τ_sm",
                    y_label="entropy, bits",
                    series=(
                        Series(
                            name="Gaussian",
                            x=floats(1 / s for s in SIGMAS),
                            y=floats(mean_of(by_sigma[s]).value for s in SIGMAS),
                        ),
                    ),
                ),
            ),
        )
    ]
    shape = TRAINED[size]
    probes = pretrain(shape, seed)
    pictures.append(_pretraining_picture(probes))
    found["rank correlation of τ_sm and entropy while pretraining"] = mean_correlation(
        [
            rank_correlation([p.temperature[k] for p in probes], [p.entropy[k] for p in probes])
            for k in range(shape.layers)
        ],
        "layers",
    )
    scale += (
        f"; an encoder of {shape.layers} layers, width {shape.width}, pretrained on masked bytes "
        f"for {shape.steps} steps of {shape.batch} windows of 128"
    )
    if not missing:
        heads: dict[str, dict[str, Tensor]] = {
            model: _heads(model, 96 if size == "quick" else 256) for model in MODELS
        }
        for model, table in heads.items():
            found[f"rank correlation of τ_sm and S / log n over heads, {model}"] = mean_correlation(
                [
                    rank_correlation(t.tolist(), s.tolist())
                    for t, s in zip(table["temperature"], table["normalized"], strict=True)
                ],
                "layers",
            )
            found[f"mean temperature τ_sm, {model}"] = mean_of(
                table["temperature"].flatten().tolist(), "heads"
            )
        pictures.append(_layers_picture(heads))
    return Measured(numbers=found, scale=scale, pictures=tuple(pictures), missing=missing)


def _heads(model: str, length: int) -> dict[str, Tensor]:
    """Temperature, entropy (bits and normalised) and both gaps: (layers, heads)."""
    table: dict[str, list[Tensor]] = {}
    for layer in real_layers(model, length):
        found = head_temperatures(layer.query[None].double(), layer.key[None].double())
        rows = torch.arange(LEAST_KEYS if layer.causal else 0, length)
        statistics = gibbs_statistics(layer.scores(rows))
        weights = layer.scores().softmax(dim=-1)
        eigen, singular = dense_spectral_gaps(weights)
        if layer.causal:
            # triangular: its eigenvalues are its diagonal, the first of them 1
            gap = 1 - weights.diagonal(dim1=-2, dim2=-1)[:, 1:].amax(dim=-1)
        else:
            gap = eigen.gap
        for name, values in {
            "temperature": found.softmax[0].double(),
            "entropy": statistics.entropy.mean(dim=-1) / LN2,
            "normalized": statistics.normalized_entropy.mean(dim=-1),
            "eigenvalue gap": gap,
            "singular gap": singular.gap,
        }.items():
            table.setdefault(name, []).append(values)
    return {name: torch.stack(values) for name, values in table.items()}


def _pretraining_picture(probes: list[Probe]) -> Picture:
    steps = floats(probe.step for probe in probes)

    def panel(title: str, name: str, label: str, unit: float = 1.0) -> Panel:
        return Panel(
            title=title,
            x_label="step",
            y_label=label,
            series=tuple(
                Series(
                    name=f"layer {k + 1}",
                    x=steps,
                    y=floats(getattr(probe, name)[k] / unit for probe in probes),
                )
                for k in range(len(probes[0].entropy))
            ),
        )

    loss = Series(
        name="loss", x=steps[1:], y=floats(probe.loss for probe in probes[1:]), style="line"
    )
    return Picture(
        name="pretraining",
        caption="As the paper's Fig. 1, at a small scale: temperature, entropy and spectral gap of "
        "every layer of an encoder while it is pretrained (mean over heads, one held-out window). "
        "The loss says how far it comes: 3.1 nats is what the frequencies of the bytes alone give.",
        panels=(
            panel("temperature", "temperature", "τ_sm"),
            panel("entropy", "entropy", "bits", LN2),
            panel("spectral gap", "gap", "1 - |λ₂|"),
            Panel(title="loss", x_label="step", y_label="nats a masked byte", series=(loss,)),
        ),
    )


def _layers_picture(heads: dict[str, dict[str, Tensor]]) -> Picture:
    def panel(title: str, name: str, label: str) -> Panel:
        series = []
        for model, table in heads.items():
            values = table[name]
            series.append(
                Series(
                    name=model,
                    x=floats(range(1, len(values) + 1)),
                    y=floats(values.mean(dim=1)),
                    low=floats(values.quantile(0.25, dim=1)),
                    high=floats(values.quantile(0.75, dim=1)),
                )
            )
        return Panel(title=title, x_label="layer", y_label=label, series=tuple(series))

    return Picture(
        name="layers",
        caption="The quantities of the paper's Fig. 1 in finished models, mean over heads with the "
        "quartiles: temperature, entropy, spectral gap of every layer.",
        panels=(
            panel("temperature", "temperature", "τ_sm"),
            panel("entropy", "entropy", "bits"),
            panel("spectral gap", "eigenvalue gap", "1 - |λ₂|"),
            panel("singular gap", "singular gap", "1 - σ_max"),
        ),
    )


def measure_variance(size: Size, seed: int) -> Measured:
    """Sweeps of rows, and the log-normal's prediction on Gaussian matrices."""
    numbers, curves, scale, missing = _sweeps(size, seed, "variance")
    found = {
        "largest rise of the variance of a row when heated, relative": largest_of(
            numbers["rows"], "rows"
        )
    }
    seeds, count = (3, 256) if size == "quick" else (5, 1024)
    ratios: dict[float, list[float]] = {}
    for i in range(seeds):
        generator = torch.Generator().manual_seed(seed + i)
        for sigma in SIGMAS:
            matrix = softmax_matrix(*gaussian_pair(generator, count, 64, sigma))
            variance = (matrix - 1 / count).square().mean().item()
            predicted = torch.tensor(sigma**2).expm1().item() / count**2
            ratios.setdefault(sigma, []).append(variance / predicted)
    for sigma, values in ratios.items():
        found[f"row variance over (e^σ² - 1)/N², sigma = {sigma:g}"] = mean_of(values)
    picture = Picture(
        name="sweep",
        caption="Variance of the probabilities of a row against temperature, and against the "
        "log-normal's.",
        panels=(
            Panel(
                title="the same rows, heated",
                x_label="temperature",
                y_label="mean over rows of mean (p - 1/n)²",
                x_scale="log",
                y_scale="log",
                series=curves,
            ),
            Panel(
                title=f"Gaussian queries and keys, N = {count}",
                x_label="σ_sm",
                y_label="variance over (e^σ² - 1)/N²",
                series=(
                    Series(
                        name="Gaussian",
                        x=floats(SIGMAS),
                        y=floats(mean_of(ratios[s]).value for s in SIGMAS),
                        low=floats(mean_of(ratios[s]).low for s in SIGMAS),
                        high=floats(mean_of(ratios[s]).high for s in SIGMAS),
                    ),
                ),
            ),
        ),
    )
    return Measured(numbers=found, scale=scale, pictures=(picture,), missing=missing)


def _sweeps(
    size: Size, seed: int, of: str
) -> tuple[dict[str, list[float]], tuple[Series, ...], str, str]:
    """Largest violation of every family of rows, curves, scale, and what is missing."""
    seeds, rows, states = (3, 100, 256) if size == "quick" else (5, 1000, 1024)
    length, per_head = (96, 2) if size == "quick" else (256, 8)
    families: dict[str, list[Tensor]] = {}
    for i in range(seeds):
        generator = torch.Generator().manual_seed(seed + i)
        for name, family in row_families(generator, rows, states).items():
            families.setdefault(name, []).append(family)
    missing = missing_weights(*MODELS)
    if not missing:
        for model in MODELS:
            families[model] = [real_rows(model, length, per_head)]
    violations: list[float] = []
    curves = []
    for name, samples in families.items():
        swept_rows = [swept(sample) for sample in samples]
        for entropy, variance in swept_rows:
            if of == "entropy":
                worst = (entropy[:-1] - entropy[1:]).amax(dim=0)
            else:
                rise = variance[1:] - variance[:-1]
                worst = (rise / variance[0].clamp_min(1e-300)).amax(dim=0)
            violations += worst.clamp_min(0).tolist()
        entropy, variance = swept_rows[0]
        n = (samples[0] > -torch.inf).sum(dim=-1).double()
        y = (entropy / n.log()).mean(dim=1) if of == "entropy" else variance.mean(dim=1)
        curves.append(Series(name=name, x=floats(TEMPERATURES), y=floats(y)))
    scale = (
        f"{len(violations)} rows at {len(TEMPERATURES)} temperatures from 0.03 to 32: {seeds} "
        f"seeds of {rows} rows of {states} states in four families"
    )
    if not missing:
        scale += f", {per_head} rows of every head of {' and '.join(MODELS)} ({length} tokens)"
    return {"rows": violations}, tuple(curves), scale + "; float64", missing


def judge_entropy(numbers: Numbers) -> Judgement:
    """Verdict by `ENTROPY_RULE`."""
    rows = numbers["largest fall of the entropy of a row when heated, nats"]
    matrices = numbers["largest fall of the mean entropy with τ_sm, Gaussian matrices, bits"]
    said = (
        f"The entropy of {rows.count} heated rows never fell by more than {rows.value:.1e} nats, "
        f"that of Gaussian matrices by more than {matrices.value:.1e} bits"
    )
    if rows.value > ROUNDING or matrices.value > ROUNDING:
        return "does not hold", said + "."
    across = {name.rpartition(", ")[2]: e for name, e in numbers.items() if "over heads" in name}
    if not across:
        return "holds", said + "; heads of real models were not compared."
    shown = ", ".join(f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}] ({m})" for m, e in across.items())
    said += f"; between heads of a layer, τ_sm orders S / log n with a rank correlation of {shown}"
    if min(e.low for e in across.values()) > 0:
        return "holds", said + "."
    return "holds with a correction", (
        said + ": between real heads the temperature alone does not order the entropies."
    )


def judge_variance(numbers: Numbers) -> Judgement:
    """Verdict by `VARIANCE_RULE`."""
    rows = numbers["largest rise of the variance of a row when heated, relative"]
    ratios = {n.rpartition(" ")[2]: e for n, e in numbers.items() if n.startswith("row variance")}
    shown = ", ".join(f"{e.value:.2f} at σ = {sigma}" for sigma, e in ratios.items())
    said = (
        f"The variance of {rows.count} heated rows never rose by more than {rows.value:.1e} of its "
        f"largest; it is {shown} of the log-normal's"
    )
    return ("holds" if rows.value <= ROUNDING else "does not hold"), said + "."


ENTROPY_RULE = (
    "Does not hold if the entropy of a row falls by more than 1e-9 when it is heated, or the mean "
    "entropy of Gaussian matrices with tau_sm. Holds if also, over the heads of a layer of real "
    "models, tau_sm and S / log n have a positive rank correlation (lower end of the mean over "
    "layers); with a correction if they do not."
)
VARIANCE_RULE = (
    "Holds if the variance of no row rises by more than 1e-9 of its largest when it is heated; "
    "otherwise it does not."
)

ENTROPY = Claim(
    id="L2",
    statement="The entropy of attention increases with its temperature",
    source="LLN, Thm 3.2; Fig. 1, 2",
    how="Rows of every shape and of real heads heated from 0.03 to 32; Gaussian matrices by τ_sm; "
    "temperature, entropy and gap of every layer of real models.",
    rule=ENTROPY_RULE,
    paper="A theorem for rows; Fig. 1 shows temperature, entropy and gap of RoBERTa's layers while "
    "it is pretrained: they move together.",
    measure=measure_entropy,
    judge=judge_entropy,
)
VARIANCE = Claim(
    id="L4",
    statement="The variance of the probabilities of a row decreases with temperature",
    source="LLN, Thm 3.4 / A.3",
    how="Rows of every shape and of real heads heated from 0.03 to 32; the log-normal's variance "
    "beside it.",
    rule=VARIANCE_RULE,
    paper="A theorem.",
    measure=measure_variance,
    judge=judge_variance,
)
