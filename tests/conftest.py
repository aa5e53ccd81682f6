"""Set-up of every test session: run-time shape checks, threads, Hypothesis profiles.

Environment variables:
    GIBBSIAN_TYPECHECK: "0" turns the run-time type and shape checks off (torch.compile cannot trace
        through them, so the tests marked `compile` run in a pytest call of their own).
    HYPOTHESIS_PROFILE: "fast" (default) or "deep".
"""

import os

# Before torch is imported, here and in the processes that tests start: with two or more workers,
# more than one thread each only makes them wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

TYPECHECK = os.environ.get("GIBBSIAN_TYPECHECK", "1") != "0"

if TYPECHECK:
    # Before the first import of gibbsian: every annotation in the package is checked when called.
    from jaxtyping import install_import_hook

    install_import_hook("gibbsian", "beartype.beartype")

import hypothesis  # noqa: E402  (the hook must come first)
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

# No deadline: the first call of a torch operator is many times slower than the next.
hypothesis.settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.register_profile(
    "deep",
    max_examples=1000,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Give every test the same global random state, whatever ran before it."""
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse to compile through the type checks, with the way out."""
    if TYPECHECK:
        skip = pytest.mark.skip(reason="run with GIBBSIAN_TYPECHECK=0 (see `make test`)")
        for item in items:
            if item.get_closest_marker("compile"):
                item.add_marker(skip)
