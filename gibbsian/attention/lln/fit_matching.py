r"""Makes the table of moment matching: `python -m gibbsian.attention.lln.fit_matching`.

For each head dimension d and number of keys N it draws Gaussian queries and keys, measures
$\mathrm{Var}(\log P^{LLN})$ over the whole matrix at several $\tilde\sigma^2$, half of it on either
side, and fits the line of eq. (34), $a \tilde\sigma^2 + b$, by least squares. About three minutes.
"""

import json
from pathlib import Path

import torch

HEAD_DIMS = (4, 8, 16, 32, 64, 128, 256)
NUM_KEYS = (64, 256, 1024, 4096)
SIGMA_SQUARED = tuple(float(s) for s in range(2, 11))
"""The broad range. It holds the sigma~^2 at which queries and keys of unit variance, whose softmax
scores have variance 1, are matched for most head dimensions."""
ENTRIES = 2**24
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
    """Least-squares slope a and intercept b over `SIGMA_SQUARED`."""
    x = torch.tensor(SIGMA_SQUARED, dtype=torch.float64)
    y = torch.tensor([log_variance(head_dim, num_keys, s) for s in SIGMA_SQUARED]).double()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(slope), float(y.mean() - slope * x.mean())


def main() -> None:
    """Write the table beside this file."""
    torch.set_num_threads(1)  # the same sums in the same order on any machine
    fits = [[fit(d, n) for n in NUM_KEYS] for d in HEAD_DIMS]
    table = {
        "command": "python -m gibbsian.attention.lln.fit_matching",
        "sigma_squared": SIGMA_SQUARED,
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
