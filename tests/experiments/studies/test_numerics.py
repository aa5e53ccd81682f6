import json
import re
from pathlib import Path

import torch

from gibbsian.experiments.studies import numerics

ROOT = Path(__file__).parents[3]
STORED = json.loads((ROOT / "results" / "numerics.json").read_text())


def test_steps_are_counted_on_both_functions():
    uniform = torch.zeros(1000, dtype=torch.float64)
    assert numerics.steps_on_the_norm(uniform, 0.0) <= 2
    assert numerics.steps_on_the_sum(uniform, 0.0) > 5
    assert numerics.steps_on_the_sum(uniform, 1.0) == 1


def test_counting_leaves_the_solver_as_it_was():
    before = numerics._solver.deformed_log_of_exp
    numerics.steps_on_the_norm(torch.zeros(3, dtype=torch.float64), 0.5)
    assert numerics._solver.deformed_log_of_exp is before


def test_the_raw_merge_is_the_variance_of_the_surprisal_where_nothing_cancels():
    row = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = row.softmax(-1)
    surprisal = -p.log()
    truth = (p * surprisal**2).sum() - (p * surprisal).sum() ** 2
    assert abs(numerics.raw_merge(row, 7) - float(truth)) < 1e-12


def test_the_last_newton_step_gains_what_is_stored():
    found = numerics.flat_tail()
    assert list(found) == list(STORED["entmax in float32, largest error"])
    for errors in found.values():
        assert errors["last Newton step"] < 1e-3 * errors["divided by the sum"]


def test_the_derivation_quotes_what_is_stored():
    page = (ROOT / "docs" / "derivations" / "entmax.md").read_text()
    steps = STORED["newton steps to rounding in float64"]
    kept = [STORED["zetas"].index(z) for z in (0.0, 1e-3, 0.1, 0.5, 0.9, 1.0)]
    quoted = {
        "uniform, 1e5 states": "uniform, 1e5 states",
        "Gaussian, std 1, 1e2 states": "gaussian std 1.0, 100 states",
        "Gaussian, std 1, 1e5 states": "gaussian std 1.0, 1e5 states",
        "Gaussian, std 0.1, 1e5 states": "gaussian std 0.1, 1e5 states",
        "Gaussian, std 10, 1e5 states": "gaussian std 10.0, 1e5 states",
    }
    for row, name in quoted.items():
        norm, plain = steps[name]["on log_zeta(sum p)"], steps[name]["on sum p - 1"]
        cells = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", page, re.MULTILINE).group(1)
        assert [c.strip() for c in cells.split("|")] == [f"{norm[i]} / {plain[i]}" for i in kept]
