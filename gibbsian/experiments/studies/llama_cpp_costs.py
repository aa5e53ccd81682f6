"""What a policy costs in llama.cpp: seconds a token with each, beside llama.cpp alone.

On a quiet machine, about a minute (`--quick`: a look):

    python -m gibbsian.experiments.studies.llama_cpp_costs --out results
"""

import argparse
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from gibbsian.experiments.bench.timing import interleave, summarise, summarise_ratio
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.pretrained import smollm2_gguf
from gibbsian.experiments.studies.sampling_costs import policies
from gibbsian.integrations.llama_cpp import NEUTRAL, EntropicLogitsProcessor, ProcessorList
from gibbsian.sampling.policies import Policy

NAME = "llama-cpp-costs"
PROMPT = "The old house stood"
TOKENS = 16
"""Tokens written at a time, end of text or not."""
ROUNDS, BUDGET = 30, 40.0
"""Rounds at most, and seconds."""


def write(llama: Any, policy: Policy | None, *, seed: int | None = None) -> float:
    """Write a text; seconds a token."""
    processors = None
    if policy is not None:
        processors = ProcessorList([EntropicLogitsProcessor(policy, seed=seed)])
    options = dict(NEUTRAL)
    options["temp"] = options.pop("temperature")
    llama.set_seed(0)
    tokens = llama.tokenize(PROMPT.encode())
    before = time.perf_counter()
    text = list(islice(llama.generate(tokens, logits_processor=processors, **options), TOKENS))
    return (time.perf_counter() - before) / len(text)


def measure(threads: int, rounds: int) -> dict[str, Any]:
    """Seconds a token, and over those of llama.cpp alone."""
    from llama_cpp import Llama, __version__  # noqa: PLC0415  (optional)

    llama = Llama(str(smollm2_gguf()), n_ctx=256, n_threads=threads, verbose=False)
    timers = {"alone": partial(write, llama, None)}
    timers |= {name: partial(write, llama, policy) for name, policy in policies().items()}
    timers["fixed, drawn here"] = partial(write, llama, policies()["fixed"], seed=0)
    for timer in timers.values():
        timer()
    times = interleave(timers, repeats=rounds, budget=BUDGET)
    return {
        "model": "SmolLM2-135M-Instruct, 4 bits",
        "llama_cpp_python": __version__,
        "threads": threads,
        "vocabulary": llama.n_vocab(),
        "tokens": TOKENS,
        "seconds": {name: summarise(found) for name, found in times.items()},
        "of_alone": {
            name: summarise_ratio(found, times["alone"])
            for name, found in times.items()
            if name != "alone"
        },
    }


def main() -> None:
    """Measure and write `llama-cpp-costs.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the result")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    arguments = parser.parse_args()
    result = {
        "command": f"python -m gibbsian.experiments.studies.llama_cpp_costs --out {arguments.out}"
        + " --quick" * arguments.quick,
        "machine": describe_machine(torch.device("cpu")),
        "versions": describe_versions(),
        "writing": measure(torch.get_num_threads(), 3 if arguments.quick else ROUNDS),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / f"{NAME}.json", result)


if __name__ == "__main__":
    main()
