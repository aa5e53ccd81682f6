r"""Softmax attention is about log-normal (Prop. 3.1).

Predicted: $\mu = -\ln N - \sigma_{sm}^2/2$ and the variance $\sigma_{sm}^2$ of $\log P$.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.heads import MODELS, Layer, missing_weights, real_layers
from gibbsian.experiments.claims.intervals import Estimate, mean_of
from gibbsian.experiments.claims.matrices import gaussian_pair
from gibbsian.experiments.claims.picture import LEVELS, Panel, Picture, Series, floats
from gibbsian.observables.lognormal import LogNormalFit, lognormal_fit
from gibbsian.observables.normality import normal_fit
from gibbsian.observables.temperature import head_temperatures

HEAD_DIM = 64
SIGMAS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
MODERATE = (0.5, 1.0)
"""Deviations of the scores for which the proposition is judged."""
LARGE = 256
"""Numbers of keys from here on are judged."""
VARIANCE_ERROR, MEAN_ERROR, DISTANCE = 0.1, 0.05, 0.05
LEAST_KEYS = 64


def _entries(layer: Layer) -> Tensor:
    """log(n p) of the entries of each head, (heads, entries), for rows of enough keys."""
    tokens = layer.query.shape[1]
    rows = torch.arange(LEAST_KEYS - 1 if layer.causal else 0, tokens)
    log_p = layer.scores(rows).log_softmax(dim=-1)
    seen = rows + 1 if layer.causal else torch.full_like(rows, tokens)
    relative = log_p + seen.double().log()[:, None]
    return relative[:, (torch.arange(tokens) < seen[:, None])]


def _real(length: int) -> dict[str, dict[str, list[float]]]:
    """Moments and distances of every head."""
    found: dict[str, dict[str, list[float]]] = {}
    for model in MODELS:
        table = found.setdefault(
            model, {"measured": [], "predicted": [], "scores": [], "mean": [], "ks": []}
        )
        for layer in real_layers(model, length):
            temperatures = head_temperatures(layer.query[None].double(), layer.key[None].double())
            predicted = temperatures.softmax[0].double().square().reciprocal()
            table["scores"] += temperatures.score_variance[0].tolist()
            fit = normal_fit(_entries(layer))
            table["measured"] += fit.sigma.square().tolist()
            table["predicted"] += predicted.tolist()
            table["mean"] += fit.mu.tolist()
            table["ks"] += fit.distance.tolist()
    return found


def _gaussian(generator: torch.Generator, count: int, sigma: float) -> LogNormalFit:
    query, key = gaussian_pair(generator, count, HEAD_DIM, sigma)
    return lognormal_fit(query[None, None], key[None, None])


def measure(size: Size, seed: int) -> Measured:
    """Gaussian queries and keys, and the heads of two models."""
    seeds, counts = (3, (64, 256)) if size == "quick" else (5, (16, 64, 256, 1024, 2048))
    numbers, cells = {}, {}
    for count in counts:
        for sigma in SIGMAS:
            found: dict[str, list[float]] = {"variance": [], "mean": [], "fit": [], "predicted": []}
            for i in range(seeds):
                generator = torch.Generator().manual_seed(seed + i)
                fit, mean = _gaussian(generator, count, sigma), -math.log(count) - sigma**2 / 2
                found["variance"].append((fit.sigma / sigma).square().item())
                found["mean"].append(fit.mu.item() - mean)
                found["fit"].append(fit.distance.item())
                found["predicted"].append(fit.distance_to(mean, sigma).item())
            cells[count, sigma] = {name: mean_of(values) for name, values in found.items()}
            where = f"N = {count}, sigma = {sigma:g}"
            numbers[f"variance over predicted, {where}"] = cells[count, sigma]["variance"]
            numbers[f"mean minus predicted, nats, {where}"] = cells[count, sigma]["mean"]
            numbers[f"distance from the fitted normal, {where}"] = cells[count, sigma]["fit"]
            numbers[f"distance from the predicted normal, {where}"] = cells[count, sigma][
                "predicted"
            ]
    missing = missing_weights(*MODELS)
    length = 128 if size == "quick" else 512
    real = {} if missing else _real(length)
    for model, table in real.items():
        ratios = [a / b for a, b in zip(table["measured"], table["predicted"], strict=True)]
        gaps = [a + v / 2 for a, v in zip(table["mean"], table["measured"], strict=True)]
        numbers[f"distance from the fitted normal, {model}"] = mean_of(table["ks"], "heads")
        numbers[f"variance over predicted, {model}"] = mean_of(ratios, "heads")
        own = [a / b for a, b in zip(table["measured"], table["scores"], strict=True)]
        numbers[f"variance over that of the scores within rows, {model}"] = mean_of(own, "heads")
        numbers[f"mean minus -ln n - Var/2, nats, {model}"] = mean_of(gaps, "heads")
        good = [float(ks < DISTANCE) for ks in table["ks"]]
        numbers[f"part of the heads within {DISTANCE:g} of a normal, {model}"] = mean_of(
            good, "heads"
        )
    return Measured(
        numbers=numbers,
        scale=f"Gaussian queries and keys, d = {HEAD_DIM}, {seeds} seeds, N = "
        + ", ".join(map(str, counts))
        + ("" if missing else f"; every head of {' and '.join(MODELS)} on {length} tokens")
        + "; float64",
        pictures=_pictures(cells, counts, real, seed, length),
        missing=missing,
    )


def _pictures(
    cells: Mapping[tuple[int, float], Mapping[str, Estimate]],
    counts: tuple[int, ...],
    real: dict[str, dict[str, list[float]]],
    seed: int,
    length: int,
) -> tuple[Picture, ...]:
    squares = floats(sigma**2 for sigma in SIGMAS)
    variance = [Series(name="predicted, σ²", x=squares, y=squares, style="dashed")]
    mean = [
        Series(
            name="predicted, σ²",
            x=squares,
            y=floats(-(sigma**2) / 2 for sigma in SIGMAS),
            style="dashed",
        )
    ]
    for count in counts:
        found = [cells[count, sigma] for sigma in SIGMAS]
        of_variance = [
            (e["variance"].value * s, e["variance"].low * s, e["variance"].high * s)
            for e, s in zip(found, squares, strict=True)
        ]
        variance.append(
            Series(
                name=f"N = {count}",
                x=squares,
                y=floats(v[0] for v in of_variance),
                low=floats(v[1] for v in of_variance),
                high=floats(v[2] for v in of_variance),
            )
        )
        mean.append(
            Series(
                name=f"N = {count}",
                x=squares,
                y=floats(e["mean"].value - s / 2 for e, s in zip(found, squares, strict=True)),
            )
        )
    moments = Picture(
        name="moments",
        caption="As the paper's Fig. 5a: variance (and mean) of log P against the variance of the "
        "scores, measured and predicted.",
        panels=(
            Panel(
                title="variance of log P",
                x_label="σ_q² σ_k²",
                y_label="Var(log P)",
                series=tuple(variance),
            ),
            Panel(
                title="mean of log P",
                x_label="σ_q² σ_k²",
                y_label="μ + ln N, nats",
                series=tuple(mean),
            ),
            Panel(
                title="distance from the fitted normal",
                x_label="σ_q² σ_k²",
                y_label="Kolmogorov-Smirnov",
                series=tuple(
                    Series(
                        name=f"N = {count}",
                        x=squares,
                        y=floats(cells[count, s]["fit"].value for s in SIGMAS),
                    )
                    for count in counts
                ),
            ),
        ),
    )
    generator = torch.Generator().manual_seed(seed)
    lines = []
    for sigma in (1.0, 3.0):
        fit = _gaussian(generator, max(counts), sigma)
        lines.append((f"Gaussian, σ = {sigma:g}", *fit.quantiles(LEVELS)))
    for model in real:
        layers = real_layers(model, length)
        head = normal_fit(_entries(layers[len(layers) // 2])[0])
        lines.append((f"{model}, middle layer, head 0", *head.quantiles(LEVELS)))
    qq = [
        Series(name=name, x=floats(normal), y=floats(measured.flatten()), style="points")
        for name, measured, normal in lines
    ]
    ends = (-2.5, 2.5)
    qq.append(Series(name="normal", x=ends, y=ends, style="dashed"))
    panels = [
        Panel(
            title="QQ plot of log P",
            x_label="quantile of the normal",
            y_label="standardised quantile of log P",
            series=tuple(qq),
        )
    ]
    if real:
        panels += _real_panels(real)
    return moments, Picture(
        name="heads",
        caption="Quantiles of log P against the normal's; and every head of two models: variance "
        "against the prediction by the moments of its queries and keys, and distance from a "
        "normal.",
        panels=tuple(panels),
    )


def _real_panels(real: dict[str, dict[str, list[float]]]) -> list[Panel]:
    highest = max(max(t["predicted"]) for t in real.values())
    lowest = min(min(t["predicted"]) for t in real.values())
    return [
        Panel(
            title="variance of log P, every head",
            x_label="predicted, σ_q² σ_k² + C_cross",
            y_label="Var(log P)",
            x_scale="log",
            y_scale="log",
            series=(
                *(
                    Series(
                        name=model,
                        x=floats(t["predicted"]),
                        y=floats(t["measured"]),
                        style="points",
                    )
                    for model, t in real.items()
                ),
                Series(
                    name="normal",
                    x=floats((lowest, highest)),
                    y=floats((lowest, highest)),
                    style="dashed",
                ),
            ),
        ),
        Panel(
            title="distance from a normal, every head",
            x_label="Var(log P)",
            y_label="Kolmogorov-Smirnov",
            x_scale="log",
            series=tuple(
                Series(name=model, x=floats(t["measured"]), y=floats(t["ks"]), style="points")
                for model, t in real.items()
            ),
        ),
    ]


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""

    def judged(label: str) -> list[float]:
        kept = []
        for name, e in numbers.items():
            _, _, where = name.partition(f"{label}, N = ")
            if where:
                count, sigma = where.split(", sigma = ")
                if int(count) >= LARGE and MODERATE[0] <= float(sigma) <= MODERATE[1]:
                    kept += [e.low, e.high]
        return kept

    variance = max(abs(v - 1) for v in judged("variance over predicted"))
    mean = max(map(abs, judged("mean minus predicted, nats")))
    distance = max(judged("distance from the fitted normal"))
    said = (
        f"For Gaussian queries and keys (moderate variance, N >= {LARGE}) the variance is within "
        f"{variance:.1%}, the mean within {mean:.3f} nats, the distance below {distance:.3f}"
    )
    if variance >= VARIANCE_ERROR or mean >= MEAN_ERROR or distance >= DISTANCE:
        return "does not hold", said + "."
    real = {m: numbers.get(f"distance from the fitted normal, {m}") for m in MODELS}
    measured = {m: e for m, e in real.items() if e is not None}
    if not measured:
        return "holds", said + "; real heads were not measured."
    shown = ", ".join(f"{e.value:.3f} ({m})" for m, e in measured.items())
    ratios = ", ".join(f"{numbers[f'variance over predicted, {m}'].value:.2f}" for m in measured)
    said += f"; real heads are {shown} from a normal, with {ratios} of the predicted variance"
    moments = [numbers[f"variance over predicted, {m}"] for m in measured]
    shape = max(e.high for e in measured.values()) < DISTANCE
    if shape and all(abs(end - 1) < VARIANCE_ERROR for e in moments for end in (e.low, e.high)):
        return "holds", said + "."
    return "holds with a correction", said + (
        ": the moments of queries and keys do not give real heads' variance."
        if shape
        else ": real heads are not log-normal to that degree."
    )


RULE = (
    "Does not hold unless, for Gaussian queries and keys with sigma in [0.5, 1] and N >= 256, "
    "variance and mean of log P are within 10 % and 0.05 nats of the prediction and the "
    "Kolmogorov-Smirnov distance from the fitted normal is below 0.05 (ends of the intervals). "
    "Holds if, for real heads too, the mean distance is below 0.05 and the mean ratio of measured "
    "to predicted variance within 10 % of 1; with a correction if one of them is not."
)

CLAIM = Claim(
    id="L1",
    statement="Softmax attention is approximately log-normal, with μ = -ln N - σ²/2 and variance "
    "σ_q² σ_k² + C_cross of log P",
    source="LLN, Prop. 3.1 and Fig. 5a",
    how="Moments of log P over the matrix and Kolmogorov-Smirnov distances, by N and sigma; the "
    "same for every head of pretrained models.",
    rule=RULE,
    paper="Fig. 5a: measured variance on the line of the prediction, for moderate variances.",
    measure=measure,
    judge=judge,
)
