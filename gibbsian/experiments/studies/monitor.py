"""What an `EntropyMonitor` costs: seconds of an observation, and of training with and without.

On a quiet machine, a few minutes (`--quick`: one minute, for a look):

    python -m gibbsian.experiments.studies.monitor --out results
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.integrations.transformers import attention_observer

NAME = "monitor"
EVERY = 50
"""The monitor's default."""
SHAPES = ((8, 128), (2, 512))
"""Batches and lengths of 1024 tokens."""
_BUDGET = 0.03
_LAYERS, _HIDDEN, _HEADS, _VOCABULARY = 4, 256, 4, 4096


def gpt2(length: int) -> PreTrainedModel:
    """A small GPT-2: causal, its eigenvalues are the diagonal."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=_VOCABULARY,
            n_positions=length,
            n_embd=_HIDDEN,
            n_layer=_LAYERS,
            n_head=_HEADS,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def bert(length: int) -> PreTrainedModel:
    """A small BERT: its eigenvalues take Arnoldi's method."""
    return BertForMaskedLM(
        BertConfig(
            vocab_size=_VOCABULARY,
            max_position_embeddings=length,
            hidden_size=_HIDDEN,
            num_hidden_layers=_LAYERS,
            num_attention_heads=_HEADS,
            intermediate_size=4 * _HIDDEN,
        )
    )


MODELS: dict[str, Callable[[int], PreTrainedModel]] = {"gpt2": gpt2, "bert": bert}


class Training:
    """A model, its optimiser, and a batch that it is trained on over and over."""

    def __init__(self, name: str, *, batch: int, length: int) -> None:
        torch.manual_seed(0)
        self.model = MODELS[name](length).train()
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self._tokens = torch.randint(_VOCABULARY, (batch, length))

    def step(self) -> None:
        """One step of AdamW."""
        self.model(input_ids=self._tokens, labels=self._tokens).loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


def observation(training: Training, pairs: int, *, gap: bool) -> dict[str, Any]:
    """Seconds of a plain step and of an observed one, in turns; each pair gives one difference."""
    plain, extra = [], []
    for pair in range(pairs + 1):
        times = {}
        # each comes first as often as the other
        for observed in (False, True) if pair % 2 else (True, False):
            with attention_observer(
                training.model, every=1 if observed else 10**9, gap=gap
            ) as observer:
                if not observed:
                    observer.close()
                start = time.perf_counter()
                training.step()
                observer.step()
                times[observed] = time.perf_counter() - start
        if pair:  # the first compiles and warms up
            plain.append(times[False])
            extra.append(times[True] - times[False])
    step, cost = statistics.median(plain), statistics.median(extra)
    return {
        "step_seconds": step,
        "observation_seconds": cost,
        "observation_seconds_quartiles": statistics.quantiles(extra, n=4)[::2],
        "pairs": pairs,
        "share_of_a_step": cost / step,
        "amortised": cost / step / EVERY,
        "least_every_for_3_percent": max(1, math.ceil(cost / step / _BUDGET)),
    }


def end_to_end(training: Training, rounds: int) -> dict[str, Any]:
    """`EVERY` steps with the monitor at its defaults against as many without, in turns."""
    ratios = []
    for number in range(rounds):
        seconds = {}
        for watched in (False, True) if number % 2 else (True, False):
            with attention_observer(training.model, every=EVERY) as observer:
                if not watched:
                    observer.close()
                start = time.perf_counter()
                for _ in range(EVERY):
                    training.step()
                    observer.step()
                seconds[watched] = time.perf_counter() - start
        ratios.append(seconds[True] / seconds[False] - 1)
    mean = statistics.mean(ratios)
    error = statistics.stdev(ratios) / math.sqrt(rounds) if rounds > 1 else math.inf
    return {
        "rounds": rounds,
        "overheads": ratios,
        "overhead": mean,
        "standard_error": error if math.isfinite(error) else None,
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """All figures of results/monitor.json."""
    cases = []
    for name in MODELS:
        for batch, length in SHAPES:
            training = Training(name, batch=batch, length=length)
            pairs = 5 if quick else 20
            case = {
                "model": name,
                "batch": batch,
                "length": length,
                "with_gap": observation(training, pairs, gap=True),
                "without_gap": observation(training, pairs, gap=False),
            }
            if (batch, length) == SHAPES[-1] and not quick:
                case["end_to_end"] = end_to_end(training, rounds=3)
            cases.append(case)
    return {
        "every": EVERY,
        "layers": _LAYERS,
        "hidden_size": _HIDDEN,
        "heads": _HEADS,
        "cases": cases,
    }


def main() -> None:
    """Measure and write `monitor.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the result")
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions, nothing end to end"
    )
    arguments = parser.parse_args()
    result = {
        "command": f"python -m gibbsian.experiments.studies.monitor --out {arguments.out}"
        + " --quick" * arguments.quick,
        "machine": describe_machine(torch.device("cpu")),
        "versions": describe_versions(),
        **measure(quick=arguments.quick),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / f"{NAME}.json", result)


if __name__ == "__main__":
    main()
