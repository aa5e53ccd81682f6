r"""Makes the table of moment matching: `python -m gibbsian.attention.lln.fit_matching`.

For each head dimension d and number of keys N it draws Gaussian queries and keys, measures
$\mathrm{Var}(\log P^{LLN})$ over the whole matrix at growing $\tilde\sigma^2$, half of it on either
side, and fits the line of eq. (34), $a \tilde\sigma^2 + b$, by least squares to the points whose
variance softmax rows have in practice. A few minutes.
"""

import json
from pathlib import Path

import torch

HEAD_DIMS = (4, 8, 16, 32, 64, 128, 256)
NUM_KEYS = (64, 256, 1024, 4096)
VARIANCES = (0.1, 1.25)
"""The broad range, as variances of log P that are to be matched. Queries and keys of unit variance
have 1. One range of sigma~^2 for every d would end below that for large d, and miss it by half."""
STEP = 0.5
"""Spacing of sigma~^2."""
ENTRIES = 2**22
"""Entries of P averaged for each point."""
TABLE = Path(__file__).with_name("matching_table.json")


def log_variance(head_dim: int, num_keys: int, sigma_squared: float, seed: int = 0) -> float:
    r"""Monte-Carlo $\mathrm{Var}(\log P^{LLN})$ for Gaussian queries and keys, float64."""
    generator = torch.Generator().manual_seed(seed)
    repeats = max(1, ENTRIES // num_keys**2)
    std = (sigma_squared / 2) ** 0.5
    total = 0.0
    for _ in range(repeats):
        shape = (2, num_keys, head_dim)
        features = (torch.randn(shape, generator=generator, dtype=torch.float64) * std).exp()
        log_weights = (features[0] @ features[1].mT).log_()
        total += float(log_weights.log_softmax(dim=-1).var(correction=0))
    return total / repeats


def fit(head_dim: int, num_keys: int) -> tuple[float, float]:
    """Least-squares slope a and intercept b over the points within `VARIANCES`."""
    points: list[tuple[float, float]] = []
    sigma_squared, variance = 0.0, 0.0
    while variance <= VARIANCES[1]:
        if variance >= VARIANCES[0]:
            points.append((sigma_squared, variance))
        sigma_squared += STEP
        variance = log_variance(head_dim, num_keys, sigma_squared)
    x, y = torch.tensor(points, dtype=torch.float64).unbind(dim=1)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(slope), float(y.mean() - slope * x.mean())


def main() -> None:
    """Write the table beside this file."""
    torch.set_num_threads(1)  # the same sums in the same order on any machine
    fits = [[fit(d, n) for n in NUM_KEYS] for d in HEAD_DIMS]
    table = {
        "command": "python -m gibbsian.attention.lln.fit_matching",
        "variances": VARIANCES,
        "head_dims": HEAD_DIMS,
        "num_keys": NUM_KEYS,
        "slope": [[round(slope, 6) for slope, _ in row] for row in fits],
        "intercept": [[round(intercept, 6) for _, intercept in row] for row in fits],
    }
    temporary = TABLE.with_suffix(".tmp")
    temporary.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    temporary.replace(TABLE)


if __name__ == "__main__":
    main()
