"""Figures about accuracy and convergence that docs/derivations and docs/decisions quote.

Newton steps of entmax, the last digit of rows with a flat tail, and the varentropy in float32. The
truth is float64. Takes half a minute on one core.

    python -m gibbsian.experiments.studies.numerics --out results
"""

import argparse
import functools
import importlib
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.experiments.files import write_json
from gibbsian.normalizers import entmax
from gibbsian.numerics.deformed import log_of_deformed_exp
from gibbsian.numerics.masked import shifted_scores
from gibbsian.statistics import GibbsStatistics, gibbs_statistics

NAME = "numerics"
ZETAS = (0.0, 1e-8, 1e-3, 0.1, 0.5, 0.9, 1.0)
_MOST_STEPS = 1000

# `gibbsian.normalizers.entmax` the attribute is the function
_solver = importlib.import_module("gibbsian.normalizers.entmax")

Row = Float[Tensor, "states"]


def rows() -> dict[str, Row]:
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


def steps_on_the_norm(row: Row, zeta: float) -> int:
    """Newton steps that the package takes (the last one only finds that it may stop)."""
    calls = 0
    original = _solver.deformed_log_of_exp

    def counted(log_w: Tensor, sparsity: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        found: Tensor = original(log_w, sparsity)
        return found

    _solver.deformed_log_of_exp = counted  # type: ignore[attr-defined]
    try:
        entmax(row, zeta)
    finally:
        _solver.deformed_log_of_exp = original  # type: ignore[attr-defined]
    return calls - 1


def steps_on_the_sum(row: Row, zeta: float) -> int:
    """Newton steps on f(c) = sum exp_zeta(x - c) - 1 from c = max x, to the same tolerance."""
    y, c = row - row.max(), row.new_zeros(())
    sparsity = row.new_tensor(zeta)
    for step in range(_MOST_STEPS):
        p = log_of_deformed_exp(y - c, sparsity).exp()
        f = p.sum() - 1
        if f <= 4 * torch.finfo(row.dtype).eps:
            return step
        change = f / p[p > 0].pow(1 - zeta).sum()
        if c + change == c:
            return step
        c = c + change
    return _MOST_STEPS


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
        exact = entmax(row.double(), sparsity.double())
        present = torch.ones_like(row, dtype=torch.bool)
        shifted, _ = shifted_scores(row, present)
        log_max = _solver.solve_log_max_prob(shifted, sparsity, present)
        u = shifted * (-sparsity * log_max).exp()
        divided = log_of_deformed_exp(u, sparsity).exp()
        divided = divided / divided.sum()
        result[f"{heavy} at 0, the rest at -{gap}, zeta {zeta}"] = {
            "divided by the sum": float((divided.double() - exact).abs().max()),
            "last Newton step": float((entmax(row, sparsity).double() - exact).abs().max()),
        }
    return result


def raw_merge(row: Row, block: int) -> float:
    """Varentropy from the moments (m, z, e1, e2) about the running maximum, merged by blocks."""
    top, sums = _raw_moments(row[:block])
    for part in row[block:].split(block):
        other_top, others = _raw_moments(part)
        new_top = torch.maximum(top, other_top)
        parts = (_shifted(sums, top - new_top), _shifted(others, other_top - new_top))
        top, sums = new_top, tuple(a + b for a, b in zip(*parts, strict=True))
    z, e1, e2 = sums
    return float(e2 / z - (e1 / z) ** 2)


def _raw_moments(part: Row) -> tuple[Tensor, tuple[Tensor, ...]]:
    top = part.max()
    y = part - top
    w = y.exp()
    return top, (w.sum(), (w * y).sum(), (w * y * y).sum())


def _shifted(sums: tuple[Tensor, ...], d: Tensor) -> tuple[Tensor, ...]:
    """The same sums about a maximum that is higher by -d."""
    z, e1, e2 = sums
    s = d.exp()
    return s * z, s * (e1 + d * z), s * (e2 + 2 * d * e1 + d * d * z)


def varentropy_in_float32() -> dict[str, dict[str, float]]:
    """Relative errors of V on 1e5 states: one pass, and merged from blocks of 1000."""
    g = torch.Generator().manual_seed(0)
    outlier = torch.randn(100_000, generator=g) * 1e-4
    outlier[500] = 1.0
    cases = {f"gaussian std {std}": torch.randn(100_000, generator=g) * std for std in (1e-4, 1.0)}
    cases["gaussian std 1e-4 and one state 1 higher"] = outlier
    result = {}
    for name, row in cases.items():
        exact = float(gibbs_statistics(row.double()).varentropy)
        p, surprisal = row.softmax(-1), -row.log_softmax(-1)
        blocks = [gibbs_statistics(block) for block in row.split(1000)]
        values = {
            "raw moments of the surprisal": float(
                (p * surprisal**2).sum() - (p * surprisal).sum() ** 2
            ),
            "raw moments about the maximum, merged": raw_merge(row, 1000),
            "central moments, one pass": float(gibbs_statistics(row).varentropy),
            "central moments, merged": float(
                functools.reduce(GibbsStatistics.merge, blocks).varentropy
            ),
        }
        result[name] = {key: abs(value / exact - 1) for key, value in values.items()}
    return result


def figures() -> dict[str, Any]:
    """Everything measured."""
    return {
        "command": "python -m gibbsian.experiments.studies.numerics --out results",
        "torch": torch.__version__,
        "zetas": list(ZETAS),
        "newton steps to rounding in float64": convergence(),
        "entmax in float32, largest error": flat_tail(),
        "varentropy in float32, relative error": varentropy_in_float32(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure accuracy and convergence.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    torch.set_num_threads(1)
    write_json(parser.parse_args().out / f"{NAME}.json", figures())
