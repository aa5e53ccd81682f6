"""Seconds of adaptive attention against the number of keys, sparsity and varentropy.

The counts of `gibbsian.experiments.studies.pruning`, as time. On a quiet machine, six minutes:

    python -m gibbsian.experiments.studies.pruning_times --out results
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gibbsian.attention import KeyIndex, aes_attention, aes_decode, entmax_attention
from gibbsian.attention.gibbs import attention_row_statistics
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.studies.pruning_fits import exponent, mean
from gibbsian.normalizers import Linear

NAME = "pruning-times"
HEADS, HEAD_DIM, SCORE_STD = 8, 64, 3.0
ZETAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
SCORE_STDS = (0.5, 1.0, 1.5, 2.0, 2.5)
"""Spreads of the scores at which V still rises with them."""
ZETA_OF_SPREADS = 0.5
SCHEDULE = Linear(low=0.2, high=0.9)

Timed = dict[str, Callable[[], object]]


def inputs(
    queries: int, keys: int, seed: int, std: float = SCORE_STD
) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian queries, keys and values, with scores of this standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (
        torch.randn(1, HEADS, length, HEAD_DIM, generator=generator)
        for length in (queries, keys, keys)
    )
    return query * std, key, value


def decoding(keys: int, seed: int) -> Timed:
    """One query a head against so many keys."""
    query, key, value = inputs(1, keys, seed)
    index = KeyIndex(key)
    return {
        "softmax": lambda: scaled_dot_product_attention(query, key, value),
        "exact": lambda: aes_attention(query, key, value, schedule=SCHEDULE),
        "index": lambda: aes_decode(query, key, value, schedule=SCHEDULE, index=index),
    }


def prefill(keys: int, seed: int) -> Timed:
    """As many queries as keys, causal."""
    query, key, value = inputs(keys, keys, seed)
    return {
        "softmax": lambda: scaled_dot_product_attention(query, key, value, is_causal=True),
        "exact": lambda: aes_attention(query, key, value, schedule=SCHEDULE, is_causal=True),
    }


def sparsities(keys: int, seed: int) -> Timed:
    """Prefill at fixed sparsities."""
    query, key, value = inputs(keys, keys, seed)

    def at(zeta: float) -> Callable[[], object]:
        return lambda: entmax_attention(query, key, value, zeta=zeta, is_causal=True)

    return {f"{zeta:g}": at(zeta) for zeta in ZETAS}


def medians(operations: Timed, rounds: int) -> dict[str, float]:
    """Median milliseconds of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in operations}
    for done in range(rounds + 1):
        for name, operation in operations.items():
            start = time.perf_counter()
            operation()
            if done:
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(own) for name, own in times.items()}


def against_keys(
    prepare: Callable[[int, int], Timed], sizes: Sequence[int], seeds: int, rounds: int
) -> dict[str, Any]:
    """Milliseconds at each size, mean over seeds, and the exponent with its 95 % interval."""
    found = [[medians(prepare(size, seed), rounds) for size in sizes] for seed in range(seeds)]
    result: dict[str, Any] = {"keys": list(sizes)}
    for name in found[0][0]:
        table = torch.tensor([[times[name] for times in of_seed] for of_seed in found])
        result[name] = {
            "milliseconds": [round(value, 4) for value in table.mean(dim=0).tolist()],
            **exponent(torch.tensor(sizes), table),
        }
    return result


def against_zeta(keys: int, seeds: int, rounds: int) -> dict[str, Any]:
    """Milliseconds at each sparsity, and the exponent in it."""
    found = [medians(sparsities(keys, seed), rounds) for seed in range(seeds)]
    return {"keys": keys, **_in_cause(ZETAS, found)}


def against_varentropy(keys: int, seeds: int, rounds: int) -> dict[str, Any]:
    """Milliseconds at one sparsity and several spreads of the scores, and the exponent in V."""
    found = []
    varentropies = torch.empty(seeds, len(SCORE_STDS))
    for seed in range(seeds):
        operations: Timed = {}
        for i, std in enumerate(SCORE_STDS):
            query, key, value = inputs(keys, keys, seed, std)
            rows = attention_row_statistics(query, key, is_causal=True)
            varentropies[seed, i] = rows.varentropy.mean()
            operations[f"{std:g}"] = partial(
                entmax_attention, query, key, value, zeta=ZETA_OF_SPREADS, is_causal=True
            )
        found.append(medians(operations, rounds))
    causes = varentropies.mean(dim=0).tolist()
    return {
        "keys": keys,
        "zeta": ZETA_OF_SPREADS,
        "varentropy": [round(value, 4) for value in causes],
        **_in_cause(causes, found),
    }


def _in_cause(causes: Sequence[float], found: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Milliseconds with the 95 % interval of the mean over seeds, and their exponent."""
    table = torch.tensor([list(times.values()) for times in found])
    means = {name: mean(table[:, i]) for i, name in enumerate(found[0])}
    return {"milliseconds": means, **exponent(torch.tensor(causes), table)}


def powers(low: int, high: int) -> list[int]:
    """Powers of two from `low` to `high`."""
    return [2**k for k in range(low.bit_length() - 1, high.bit_length())]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write `pruning-times.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the result")
    parser.add_argument("--most-keys", type=int, default=131_072, help="of decoding")
    parser.add_argument("--most-queries", type=int, default=8192, help="of prefill")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    seeds, rounds = options.seeds, options.rounds
    with torch.no_grad():
        result = {
            "command": f"python -m gibbsian.experiments.studies.pruning_times --out {options.out}",
            "machine": describe_machine(torch.device("cpu")),
            "versions": describe_versions(),
            "seeds": seeds,
            "decoding": against_keys(decoding, powers(256, options.most_keys), seeds, rounds),
            "prefill": against_keys(prefill, powers(256, options.most_queries), seeds, rounds),
            "prefill_at_fixed_zeta": against_zeta(options.most_queries, seeds, rounds),
            "prefill_of_one_spread": against_varentropy(options.most_queries, seeds, rounds),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / f"{NAME}.json", result)


if __name__ == "__main__":
    main()
