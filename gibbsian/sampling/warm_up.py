"""Compile the kernels of sampling before they are needed."""

import time
from collections.abc import Iterator

import torch

from gibbsian.sampling.decision import Decision
from gibbsian.sampling.filters import TargetEntropy
from gibbsian.sampling.take import take
from gibbsian.statistics import row_statistics


def warm_up() -> Iterator[tuple[str, float]]:
    """Takes one token of a few logits, see `gibbsian.attention.warm_up`.

    Yields:
        The name of each operation after it ran, and the seconds that it took.

    Raises:
        BackendUnavailableError: numba is not installed.
    """
    start = time.perf_counter()
    logits, zero = torch.tensor([[0.0, 1.0]]), torch.zeros(1, dtype=torch.int64)
    statistics = row_statistics(logits, backend="cpu")
    take(logits, statistics, Decision(), zero, zero, backend="cpu")
    TargetEntropy(entropy=0.5).temperature(logits)
    yield "sampling", time.perf_counter() - start
