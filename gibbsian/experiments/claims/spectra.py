r"""Whether $|\lambda_2|^2$ is the variance along the principal component of the centred P."""

import torch
from torch import Tensor

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.heads import MODELS, missing_weights, real_layers
from gibbsian.experiments.claims.intervals import Estimate, largest_of, mean_of
from gibbsian.experiments.claims.matrices import (
    gaussian_pair,
    linear_relu,
    matched_lln,
    softmax_matrix,
)
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.observables.spectral import dense_spectral_gaps

EXACT = 1e-6
EQUAL = 0.01
SIGMAS = (0.5, 1.0, 1.5, 2.0)


def circulant(generator: torch.Generator, count: int) -> Tensor:
    """A random circulant stochastic matrix: normal, not symmetric."""
    row = torch.randn(count, generator=generator, dtype=torch.float64).mul(2).softmax(dim=-1)
    index = (torch.arange(count) - torch.arange(count)[:, None]) % count
    return row[index]


def doubly_stochastic(generator: torch.Generator, count: int) -> Tensor:
    """A random symmetric matrix whose rows and columns sum to 1, by Sinkhorn's steps."""
    scores = torch.randn(count, count, generator=generator, dtype=torch.float64)
    matrix = (scores + scores.mT).exp()
    scale = torch.ones(count, dtype=torch.float64)
    for _ in range(500):
        # the symmetric form of Sinkhorn's step
        scale = (scale / (matrix @ scale)).sqrt()
    matrix = scale[:, None] * matrix * scale
    return matrix / matrix.sum(dim=-1, keepdim=True)


def gaps(weights: Tensor) -> tuple[Tensor, Tensor]:
    """|lambda_2| and the largest singular value of the centred matrix."""
    eigen, singular = dense_spectral_gaps(weights)
    return eigen.magnitude, singular.magnitude


def measure(size: Size, seed: int) -> Measured:
    """Normal matrices, attention of Gaussian queries and keys, real heads."""
    seeds, count = (3, 64) if size == "quick" else (5, 256)
    points: dict[str, list[tuple[float, float]]] = {}
    ratios: dict[str, list[float]] = {}
    excess = []

    def note(name: str, weights: Tensor) -> None:
        small, large = gaps(weights)
        points.setdefault(name, []).extend(zip(small.tolist(), large.tolist(), strict=True))
        ratios.setdefault(name, []).append((small / large).mean().item())
        excess.append((small - large).max().item())

    for i in range(seeds):
        generator = torch.Generator().manual_seed(seed + i)
        note("normal: circulant", circulant(generator, count)[None])
        note("normal: symmetric", doubly_stochastic(generator, count)[None])
        for sigma in SIGMAS:
            query, key = gaussian_pair(generator, count, 64, sigma)
            note(f"softmax, sigma = {sigma:g}", softmax_matrix(query, key)[None])
            note(f"softmax, q = k, sigma = {sigma:g}", softmax_matrix(query, query)[None])
        query, key = gaussian_pair(generator, count, 64, 1.0)
        note("LLN, matched, sigma = 1", matched_lln(query, key)[None])
        note("linear ReLU", linear_relu(query, key)[None])
        causal = (query @ key.mT / 8).masked_fill(
            torch.ones(count, count).triu(1).bool(), -torch.inf
        )
        note("causal softmax, sigma = 1", causal.softmax(dim=-1)[None])
    missing = missing_weights(*MODELS)
    length = 64 if size == "quick" else 256
    real: dict[str, Estimate] = {}
    for model in () if missing else MODELS:
        found: list[float] = []
        for layer in real_layers(model, length):
            small, large = gaps(layer.scores().softmax(dim=-1))
            if layer.causal:
                diagonal = layer.scores().softmax(dim=-1).diagonal(dim1=-2, dim2=-1)
                small = diagonal[:, 1:].amax(dim=-1)
            points.setdefault(model, []).extend(zip(small.tolist(), large.tolist(), strict=True))
            found += (small / large).tolist()
            excess.append((small - large).max().item())
        real[f"|λ₂| / σ_max, {model}"] = mean_of(found, "heads")
    numbers = {
        f"|λ₂| / σ_max, {name}": (
            largest_of([abs(v - 1) for v in values]) if "normal" in name else mean_of(values)
        )
        for name, values in ratios.items()
    }
    numbers = {
        name.replace("|λ₂| / σ_max", "| |λ₂| / σ_max - 1 |") if "normal" in name else name: e
        for name, e in numbers.items()
    }
    numbers |= real
    numbers["largest |λ₂| - σ_max"] = largest_of(excess, "sets of matrices")
    return Measured(
        numbers=numbers,
        scale=f"{seeds} seeds, N = {count}, d = 64"
        + ("" if missing else f"; every head of {' and '.join(MODELS)} on {length} tokens")
        + "; dense, float64",
        pictures=(_picture(points),),
        missing=missing,
    )


def _picture(points: dict[str, list[tuple[float, float]]]) -> Picture:
    groups: dict[str, list[tuple[float, float]]] = {}
    for name, found in points.items():
        groups.setdefault(name.partition(", sigma")[0].partition(":")[0], []).extend(found)
    series = [
        Series(
            name=name,
            x=floats(large for _, large in found),
            y=floats(small for small, _ in found),
            style="points",
        )
        for name, found in groups.items()
    ]
    line = (0.01, 1.0)
    series.append(Series(name="|λ₂| = σ_max", x=line, y=line, style="dashed"))
    return Picture(
        name="gaps",
        caption="Second eigenvalue against the largest singular value of the centred matrix, a "
        "point a matrix. Thm 3.3 puts all on the line.",
        panels=(
            Panel(
                title="|λ₂| against σ_max",
                x_label="largest singular value of P - 1μᵀ",
                y_label="|λ₂|",
                x_scale="log",
                y_scale="log",
                series=tuple(series),
            ),
        ),
    )


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    normal = max(e.value for n, e in numbers.items() if n.startswith("| |λ₂|"))
    others = {n.partition(", ")[2]: e for n, e in numbers.items() if n.startswith("|λ₂| / σ_max")}
    excess = numbers["largest |λ₂| - σ_max"].value
    far_name, far = min(others.items(), key=lambda item: item[1].value)
    said = (
        f"Normal matrices meet the equality to {normal:.1e}; |λ₂| / σ_max of attention matrices is "
        f"down to {far.value:.3f} ({far_name}), never above 1 by more than {max(excess, 0):.1e}"
    )
    if normal > EXACT or excess > EXACT:
        return "does not hold", said + "."
    if all(abs(e.low - 1) < EQUAL and abs(e.high - 1) < EQUAL for e in others.values()):
        return "holds", said + "."
    return "holds with a correction", said + ": an upper bound, an equality for normal P only."


RULE = (
    "Does not hold unless |lambda_2| equals the largest singular value of the centred P for normal "
    "P within 1e-6, and exceeds it nowhere by more. Holds if they are equal within 1 % for every "
    "kind of attention matrix (ends of the intervals); with a correction if they are not."
)

CLAIM = Claim(
    id="L3",
    statement="λ₂² is the variance along the major principal component of the centred P",
    source="LLN, Thm 3.3",
    how="Second eigenvalue against the largest singular value of P - 1μᵀ, dense, for normal "
    "matrices, attention of Gaussian queries and keys, and real heads.",
    rule=RULE,
    paper="A theorem, stated for attention matrices without the condition that P is normal.",
    measure=measure,
    judge=judge,
)
