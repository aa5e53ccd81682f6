"""What sampling costs: a step of every policy beside a decode step, filters beside Hugging Face's.

On a quiet machine, about two minutes (`--quick`: a look in a quarter of that):

    python -m gibbsian.experiments.studies.sampling_costs --out results

SmolLM2-135M is used if installed, else a random model of its shape; the result says which.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MinPLogitsWarper,
    PreTrainedModel,
    TopPLogitsWarper,
)

from gibbsian._errors import DataError
from gibbsian.experiments.bench.timing import interleave, summarise, summarise_ratio
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.experiments.text import load_text
from gibbsian.sampling import start, step
from gibbsian.sampling.filters import MinP, TopP
from gibbsian.sampling.policies import POLICIES, Fixed, FreeEnergy, Policy
from gibbsian.statistics import gibbs_statistics, row_statistics

NAME = "sampling-costs"
CACHED = 256
"""Tokens in the KV cache of a decode step."""
BATCH, VOCABULARY = 64, 128_256
"""Rows and tokens of the filters' comparison: a server's batch, Llama 3's vocabulary."""
ROUNDS, BUDGET = 100, 50.0
"""Rounds at most of each comparison, and seconds."""
MIN_P, TOP_P = 0.05, 0.9
STATISTICS_BOUND = 1e-4
"""Largest error of a statistic or surprisal, relative where it is above 1."""
PROBABILITY_BOUND = 2e-3
"""Largest total variation distance between a policy's distribution in float32 and in float64: the
temperature of a target entropy is solved for to 1e-4 nats, and a token may lie on an edge."""
EDGE = 1e-5
"""Share of a probability by which float32 may move the edge of a cut."""
SHAPE: dict[str, Any] = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
"""SmolLM2-135M's, for a random model."""

GIVEN: dict[str, Policy] = {
    "fixed": Fixed(temperature=0.8, min_p=MIN_P),
    "free-energy": FreeEnergy(target_entropy=1.5),
}
"""Policies that do next to nothing without a parameter; the others have their defaults."""


def policies() -> dict[str, Policy]:
    """One of every kind."""
    return {name: GIVEN[name] if name in GIVEN else cls() for name, cls in POLICIES.items()}


class Decoding:
    """A language model with a filled cache, that takes one more token over and over."""

    def __init__(self) -> None:
        try:
            self.model, context = _pretrained()
            self.described = "SmolLM2-135M-Instruct, weights of 4 bits as float32"
        except DataError:
            self.model, context = _random()
            self.described = "random weights in the shape of SmolLM2-135M, float32"
        self._cache = DynamicCache(config=self.model.config)
        self._token = context[:, CACHED:]
        with torch.no_grad():
            self.model(context[:, :CACHED], past_key_values=self._cache)

    @torch.no_grad()
    def step(self) -> Tensor:
        """Logits (1, vocabulary) of the next token."""
        logits: Tensor = self.model(self._token, past_key_values=self._cache).logits[:, -1]
        return logits

    def forget(self) -> None:
        """The cache as it was before `step`."""
        self._cache.crop(-1)


def _pretrained() -> tuple[PreTrainedModel, Tensor]:
    folder = smollm2_folder()
    text = load_text().content[: 16 * CACHED]
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), tokens[:, : CACHED + 1]


def _random() -> tuple[PreTrainedModel, Tensor]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    return model, torch.randint(SHAPE["vocab_size"], (1, CACHED + 1))


def check_policy(policy: Policy, logits: Tensor) -> dict[str, float]:
    """Errors of a step against float64.

    Raises:
        DataError: one of them is too large, or the token is none that float64 allows.
    """
    state = start(policy, logits.shape[0], seed=0)
    token, _, info = step(logits, state, policy=policy)
    wide = logits.double()
    statistics = gibbs_statistics(wide)
    log_probs = wide.log_softmax(dim=-1)
    expected, _ = policy.decide(statistics, state.policy)
    actual, _ = policy.decide(row_statistics(logits), state.policy)
    true = expected.apply(wide).softmax(dim=-1)
    distance = (actual.apply(logits).double().softmax(dim=-1) - true).abs().sum(dim=-1) / 2
    errors = {
        "statistics": _error(
            torch.stack([info.entropy, info.varentropy, info.surprisal]),
            torch.stack(
                [
                    statistics.entropy,
                    statistics.varentropy,
                    -log_probs.gather(-1, token.unsqueeze(-1)).squeeze(-1),
                ]
            ),
        ),
        "total_variation": float(distance.max()),
    }
    _require(errors["statistics"] <= STATISTICS_BOUND, policy.name, errors)
    _require(errors["total_variation"] <= PROBABILITY_BOUND, policy.name, errors)
    _require(bool((true.gather(-1, token.unsqueeze(-1)) > 0).all()), policy.name, "its token")
    return errors


def check_batch(logits: Tensor, operations: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Statistics against float64, and that every filter keeps what its rule says in float64.

    Raises:
        DataError: something is wrong.
    """
    results = {name: operation() for name, operation in operations.items()}
    errors = {"log_softmax": 0.0, "statistics": 0.0}
    ours, (again, min_p) = results["statistics"], results["statistics_min_p"]
    for row, scores in enumerate(logits):
        wide = scores.double()
        log_probs = wide.log_softmax(dim=-1)
        true = gibbs_statistics(wide)
        for found in (ours, again):
            pairs = ((found.entropy, true.entropy), (found.varentropy, true.varentropy))
            error = max(_error(actual[row], expected) for actual, expected in pairs)
            errors["statistics"] = max(errors["statistics"], error)
        error = _error(results["log_softmax"][row], log_probs)
        errors["log_softmax"] = max(errors["log_softmax"], error)
        probs = log_probs.exp()
        for name, filtered in (("min_p", min_p), ("min_p_peer", results["min_p_peer"])):
            kept = filtered[row] > -torch.inf
            level = MIN_P * probs.max()
            within = (probs >= level * (1 + EDGE)) <= kept
            outside = kept <= (probs >= level * (1 - EDGE))
            _require(bool((within & outside).all()), name, f"row {row}")
        for name in ("top_p", "top_p_peer"):
            kept = results[name][row] > -torch.inf
            least = probs[kept].min()
            mass = float(probs[kept].sum())
            _require(mass >= TOP_P - EDGE, name, f"{mass} in row {row}")
            _require(mass - float(least) < TOP_P + EDGE, name, f"{mass} in row {row}")
            _require(float(probs[~kept].max()) <= float(least) * (1 + EDGE), name, f"row {row}")
    for name, error in errors.items():
        _require(error <= STATISTICS_BOUND, name, error)
    return errors


def _error(actual: Tensor, expected: Tensor) -> float:
    """Largest error; relative for what is above 1."""
    return float(((actual.double() - expected).abs() / expected.abs().clamp_min(1.0)).max())


def _require(holds: bool, name: str, found: object) -> None:
    if not holds:
        raise DataError(f"`{name}` differs from float64 ({found}): its time would mean nothing.")


def seconds(operation: Callable[[], object]) -> float:
    """Of one call."""
    before = time.perf_counter()
    operation()
    return time.perf_counter() - before


def decoding(rounds: int) -> dict[str, Any]:
    """A step of every policy, each right after the decode step that makes its logits."""
    model = Decoding()
    logits = model.step()
    model.forget()
    checks = {name: check_policy(policy, logits) for name, policy in policies().items()}

    def decode() -> float:
        took = seconds(model.step)
        model.forget()
        return took

    def sample(policy: Policy) -> float:
        fresh = model.step()
        took = seconds(partial(step, fresh, states[policy.name], policy=policy))
        model.forget()
        return took

    states = {name: start(policy, 1, seed=0) for name, policy in policies().items()}
    timers = {name: partial(sample, policy) for name, policy in policies().items()}
    times = interleave({"decode": decode, **timers}, repeats=rounds, budget=BUDGET)
    return {
        "model": model.described,
        "cached_tokens": CACHED,
        "shape": list(logits.shape),
        "policies": {name: policy.to_config() for name, policy in policies().items()},
        "errors": checks,
        "seconds": {name: summarise(found) for name, found in times.items()},
        "of_a_decode_step": {
            name: summarise_ratio(times[name], times["decode"]) for name in timers
        },
    }


def filtering(rounds: int) -> dict[str, Any]:
    """Statistics and filters of a batch, beside what they replace."""
    spread = torch.linspace(2.0, 7.0, BATCH).unsqueeze(-1)  # from flat rows to peaked ones
    logits = torch.randn(BATCH, VOCABULARY, generator=torch.Generator().manual_seed(0)) * spread
    # these look at no tokens
    tokens: Any = torch.zeros(BATCH, 1, dtype=torch.int64)
    operations: dict[str, Callable[[], Any]] = {
        "log_softmax": lambda: logits.log_softmax(dim=-1),
        "statistics": lambda: row_statistics(logits),
        "min_p_peer": lambda: MinPLogitsWarper(MIN_P)(tokens, logits),
        "statistics_min_p": lambda: (row_statistics(logits), MinP(min_p=MIN_P)(logits)),
        "top_p_peer": lambda: TopPLogitsWarper(TOP_P)(tokens, logits),
        "top_p": lambda: TopP(p=TOP_P)(logits),
    }
    errors = check_batch(logits, operations)
    timers = {name: partial(seconds, operation) for name, operation in operations.items()}
    times = interleave(timers, repeats=rounds, budget=BUDGET)
    pairs = (
        ("statistics", "log_softmax"),
        ("statistics_min_p", "min_p_peer"),
        ("top_p", "top_p_peer"),
    )
    return {
        "shape": [BATCH, VOCABULARY],
        "errors": errors,
        "seconds": {name: summarise(found) for name, found in times.items()},
        "ratios": {
            f"{above}/{below}": summarise_ratio(times[above], times[below])
            for above, below in pairs
        },
    }


def main() -> None:
    """Check, measure and write `sampling-costs.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the result")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    arguments = parser.parse_args()
    rounds = 6 if arguments.quick else ROUNDS
    result = {
        "command": f"python -m gibbsian.experiments.studies.sampling_costs --out {arguments.out}"
        + " --quick" * arguments.quick,
        "machine": describe_machine(torch.device("cpu")),
        "versions": describe_versions(),
        "decoding": decoding(rounds),
        "filtering": filtering(rounds),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / f"{NAME}.json", result)


if __name__ == "__main__":
    main()
