"""Measures the figures quoted in docs/derivations and docs/decisions about numerics.

python -m benchmarks.numerics    (writes results/numerics.json; half a minute on one core)
"""

import functools
import importlib
import json
from pathlib import Path

import numpy as np
import torch

from gibbsian.numerics.masked import shifted_scores
from gibbsian.statistics import GibbsStatistics, gibbs_statistics
from tests.oracles import entmax as oracle
from tests.oracles import gibbs as gibbs_oracle

# `gibbsian.normalizers.entmax` the attribute is the function
entmax_module = importlib.import_module("gibbsian.normalizers.entmax")
ZETAS = [0.0, 1e-8, 1e-3, 0.1, 0.5, 0.9, 1.0]


def rows() -> dict[str, torch.Tensor]:
    """Rows of 1e5 (and fewer) states, float64."""
    g = torch.Generator().manual_seed(0)
    result = {"uniform, 1e5 states": torch.zeros(100_000)}
    for n, label in ((100, "100"), (1000, "1000"), (100_000, "1e5")):
        for std in (0.1, 1.0, 10.0):
            result[f"gaussian std {std}, {label} states"] = torch.randn(n, generator=g) * std
    tail = torch.full((100_000,), -0.3)
    tail[:3] = 0.0
    result["three heavy states over a flat tail, 1e5 states"] = tail
    return {name: row.double() for name, row in result.items()}


def steps_on_the_norm(row: torch.Tensor, zeta: float) -> int:
    """Newton steps that the package takes (the last one only finds that it may stop)."""
    calls = 0
    original = entmax_module.deformed_log_of_exp

    def counted(*arguments: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return original(*arguments)

    entmax_module.deformed_log_of_exp = counted
    try:
        entmax_module.entmax(row, zeta)
    finally:
        entmax_module.deformed_log_of_exp = original
    return calls - 1


def steps_on_the_sum(row: torch.Tensor, zeta: float) -> int:
    """Newton steps on f(c) = sum exp_zeta(x - c) - 1 from c = max x, to the same tolerance."""
    y, c = row.numpy() - float(row.max()), 0.0
    for step in range(1000):
        p = np.exp(oracle.log_deformed_exp(y - c, zeta))
        f = p.sum() - 1
        if f <= 4 * np.finfo(np.float64).eps:
            return step
        change = f / (p[p > 0] ** (1 - zeta)).sum()
        if c + change == c:
            return step
        c += change
    return 1000


def convergence() -> dict[str, dict[str, list[int]]]:
    """Steps for each row and each zeta in ZETAS."""
    return {
        name: {
            "on log_zeta(sum p)": [steps_on_the_norm(row, z) for z in ZETAS],
            "on sum p - 1": [steps_on_the_sum(row, z) for z in ZETAS],
        }
        for name, row in rows().items()
    }


def flat_tail() -> dict[str, dict[str, float]]:
    """Largest error of p in float32 where 1e5 equal states round the same way."""
    result = {}
    for heavy, gap, zeta in ((1, 1.0, 0.99), (3, 0.05, 0.99), (3, 0.3, 1.0)):
        row = torch.full((100_000,), -gap)
        row[:heavy] = 0.0
        sparsity = torch.tensor([zeta])
        exact = oracle.probabilities(row.numpy(), float(sparsity))
        present = torch.ones_like(row, dtype=torch.bool)
        shifted, _ = shifted_scores(row, present)
        log_max = entmax_module.solve_log_max_prob(shifted, sparsity, present)
        u = shifted * (-sparsity * log_max).exp()
        divided = entmax_module.log_of_deformed_exp(u, sparsity).exp()
        divided = divided / divided.sum()
        result[f"{heavy} at 0, the rest at -{gap}, zeta {zeta}"] = {
            "divided by the sum": float(np.abs(divided.double().numpy() - exact).max()),
            "last Newton step": float(
                np.abs(entmax_module.entmax(row, sparsity).double().numpy() - exact).max()
            ),
        }
    return result


def raw_merge(row: torch.Tensor, block: int) -> float:
    """Varentropy from the moments (m, z, e1, e2) about the running maximum, merged by blocks."""

    def moments(part: torch.Tensor) -> tuple[torch.Tensor, ...]:
        m = part.max()
        y = part - m
        w = y.exp()
        return m, w.sum(), (w * y).sum(), (w * y * y).sum()

    first, *others = row.split(block)
    state = moments(first)
    for part in others:
        new = moments(part)
        m = new[0]
        top = torch.maximum(state[0], m)
        total = [torch.zeros(()) for _ in range(3)]
        for m_i, z, e1, e2 in (state, new):
            d = m_i - top
            s = d.exp()
            total[0] = total[0] + s * z
            total[1] = total[1] + s * (e1 + d * z)
            total[2] = total[2] + s * (e2 + 2 * d * e1 + d * d * z)
        state = (top, *total)
    _, z, e1, e2 = state
    return float(e2 / z - (e1 / z) ** 2)


def varentropy_in_float32() -> dict[str, dict[str, float]]:
    """Relative errors of V on 1e5 states: one pass, and merged from blocks of 1000."""
    g = torch.Generator().manual_seed(0)
    outlier = torch.randn(100_000, generator=g) * 1e-4
    outlier[500] = 1.0
    cases = {f"gaussian std {std}": torch.randn(100_000, generator=g) * std for std in (1e-4, 1.0)}
    cases["gaussian std 1e-4 and one state 1 higher"] = outlier
    result = {}
    for name, row in cases.items():
        exact = gibbs_oracle.statistics(row.numpy())["varentropy"]
        p, surprisal = row.softmax(-1), -row.log_softmax(-1)
        values = {
            "raw moments of the surprisal": float(
                (p * surprisal**2).sum() - (p * surprisal).sum() ** 2
            ),
            "raw moments about the maximum, merged": raw_merge(row, 1000),
            "central moments, one pass": float(gibbs_statistics(row).varentropy),
            "central moments, merged": float(
                functools.reduce(
                    GibbsStatistics.merge, [gibbs_statistics(b) for b in row.split(1000)]
                ).varentropy
            ),
        }
        result[name] = {key: abs(value / exact - 1) for key, value in values.items()}
    return result


def main() -> None:
    """Measure and write everything."""
    torch.set_num_threads(1)
    figures = {
        "command": "python -m benchmarks.numerics",
        "torch": torch.__version__,
        "zetas": ZETAS,
        "newton steps to rounding in float64": convergence(),
        "entmax in float32, largest error": flat_tail(),
        "varentropy in float32, relative error": varentropy_in_float32(),
    }
    path = Path(__file__).parents[1] / "results" / "numerics.json"
    path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
