"""Compile every kernel before it is needed."""

import time
from collections.abc import Callable, Iterator

import torch

from gibbsian.attention.aes import aes_attention
from gibbsian.attention.aes.decoding import aes_decode
from gibbsian.attention.aes.key_index import KeyIndex
from gibbsian.attention.lln import lln_attention, lln_diag_attention
from gibbsian.normalizers import entmax
from gibbsian.normalizers.schedules import SmoothStep


def warm_up() -> Iterator[tuple[str, float]]:
    """Runs every compiled operation once, forwards and backwards, on a few numbers.

    What is compiled is kept on disk, so a second call, in this process or another, takes a second.

    Yields:
        The name of each operation after it ran, and the seconds that it took.

    Raises:
        BackendUnavailableError: numba is not installed.
    """
    for name, operation in _operations().items():
        start = time.perf_counter()
        operation()
        yield name, time.perf_counter() - start


def _operations() -> dict[str, Callable[[], None]]:
    def inputs() -> list[torch.Tensor]:
        return [torch.ones(1, 1, 2, 2, requires_grad=True) for _ in range(3)]

    def rows() -> None:
        (scores, *_) = inputs()
        zeta = torch.full((1, 1, 2, 1), 0.5, requires_grad=True)
        entmax(scores, zeta, backend="cpu").sum().backward()

    def adaptive() -> None:
        aes_attention(*inputs(), schedule=SmoothStep(), backend="cpu").sum().backward()

    def decoding() -> None:
        query, key, value = inputs()
        for index in (None, KeyIndex(key.detach())):
            aes_decode(query, key, value, schedule=SmoothStep(), index=index, backend="cpu")

    def linear(causal: bool) -> Callable[[], None]:
        def run() -> None:
            lln_attention(*inputs(), is_causal=causal, backend="cpu").sum().backward()
            lln_diag_attention(*inputs(), is_causal=causal, backend="cpu").sum().backward()

        return run

    return {
        "entmax": rows,
        "adaptive attention": adaptive,
        "decoding": decoding,
        "LLN": linear(causal=False),
        "causal LLN": linear(causal=True),
    }
