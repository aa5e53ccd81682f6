import json
from pathlib import Path

import pytest
import torch

from gibbsian.experiments.studies import engine
from gibbsian.numerics.cpu import threads

ROOT = Path(__file__).parents[3]
STORED = json.loads((ROOT / "results" / "engine.json").read_text())


def test_the_products_compared_are_the_same_product():
    speeds = engine.product(rows=8, depth=16, columns=128)
    assert set(speeds) == {"register_tiles", "torch_mm"}
    assert min(speeds.values()) > 0


def test_measuring_leaves_the_threads_as_they_were():
    before = torch.get_num_threads(), threads._team_of_openmp
    times = engine.thread_teams(length=16, heads=2, head_dim=4)
    assert (torch.get_num_threads(), threads._team_of_openmp) == before
    assert min(times.values()) > 0


QUOTED = {
    "docs/decisions/0040-cpu-kernels-in-numba.md": [
        ("product_gflops_one_thread", "register_tiles"),
        ("product_gflops_one_thread", "torch_mm"),
    ],
    "docs/decisions/0041-threads-of-torch.md": [
        ("lln_forward_backward_1024_ms", "one_thread"),
        ("lln_forward_backward_1024_ms", "two_threads_of_torch"),
        ("lln_forward_backward_1024_ms", "two_threads_of_python"),
    ],
}


@pytest.mark.parametrize("page", QUOTED)
def test_the_pages_quote_the_stored_figures(page):
    text = (ROOT / page).read_text()
    for group, name in QUOTED[page]:
        value = STORED[group][name]
        quoted = f"{value:.0f}" if value >= 100 else f"{value:.1f}"
        assert quoted in text, f"{group}, {name}: {quoted}"


def test_the_page_on_backends_quotes_the_time_to_compile():
    text = (ROOT / "docs/usage/backends.md").read_text()
    for state in ("cold", "cached"):
        assert f"{sum(STORED['warm_up_seconds'][state].values()):.0f} s" in text, state
