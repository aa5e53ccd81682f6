"""Settings aimed at equal entropy: every method's strengths at those of four temperatures."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.experiments.studies.decoding.methods import METHODS, at_entropy
from gibbsian.experiments.studies.decoding.subjects import Continuation
from gibbsian.experiments.studies.decoding.watching import realised_entropy
from gibbsian.experiments.studies.decoding.writer import Writer
from gibbsian.sampling import Thresholds, calibrate
from gibbsian.sampling.policies import Fixed, Policy
from gibbsian.statistics import row_statistics

TEMPERATURES = (0.3, 0.5, 0.7, 0.9)
"""Of the four settings."""
_GRID = 9


class Contexts:
    """Distributions of the model along given continuations.

    Args:
        logits: (length, vocabulary) of each continuation.
        tokens: that the continuations have.
    """

    def __init__(
        self,
        logits: Sequence[Float[Tensor, "_ vocabulary"]],
        tokens: Sequence[Sequence[int]],
    ) -> None:
        # the longest first: then those that still go on are the first ones
        order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
        self._logits = [logits[i] for i in order]
        self._tokens = [torch.tensor(tokens[i]) for i in order]

    def all(self) -> Float[Tensor, "positions vocabulary"]:
        """Every position."""
        return torch.cat(self._logits)

    @torch.no_grad()
    def entropy(self, policy: Policy) -> float:
        """Mean entropy of what a policy draws from, that sees the continuations' tokens taken."""
        state = policy.start(len(self._tokens), "cpu")
        found = []
        for step in range(len(self._tokens[0])):
            going = sum(len(tokens) > step for tokens in self._tokens)
            state = state.rows(torch.arange(going))
            logits = torch.stack([rows[step] for rows in self._logits[:going]])
            taken = torch.stack([tokens[step] for tokens in self._tokens[:going]])
            statistics = row_statistics(logits)
            decision, state = policy.decide(statistics, state)
            found.append(realised_entropy(decision, logits, decision.apply(logits)))
            scores = logits.gather(1, taken[:, None]).squeeze(1)
            state = policy.observe(state, (statistics.log_partition - scores).clamp_min(0.0))
        return float(torch.cat(found).mean())


def levels(writer: Writer, continuations: Sequence[Continuation]) -> dict[str, Any]:
    """Thresholds, and four strengths of every method.

    Returns:
        JSON-able: the target entropies; for each method its strengths, the entropies found at them
        (interpolation from nine points misses the targets by some percent, at times by more), and
        whether a target lies in the range of its nine.
    """
    contexts = Contexts(
        [writer.expected(prompt, tokens) for prompt, tokens in continuations],
        [tokens for _, tokens in continuations],
    )
    statistics = row_statistics(contexts.all())
    calibration = calibrate(statistics, model="the study's", text="the subject's contexts")
    thresholds = calibration.thresholds
    targets = [contexts.entropy(Fixed(temperature=t)) for t in TEMPERATURES]
    methods = {}
    for method in METHODS:
        grid = method.grid(_GRID)
        entropies = [contexts.entropy(method.policy(value, thresholds)) for value in grid]
        found = [at_entropy(grid, entropies, target) for target in targets]
        strengths = [float(f"{strength:.4g}") for strength, _ in found]
        methods[method.name] = {
            "strengths": strengths,
            "entropies": [
                round(contexts.entropy(method.policy(value, thresholds)), 4) for value in strengths
            ],
            "reached": [reached for _, reached in found],
        }
    return {
        "positions": calibration.positions,
        "model_entropy": round(float(statistics.entropy.mean()), 4),
        "thresholds": thresholds.to_config(),
        "temperatures": list(TEMPERATURES),
        "targets": [round(target, 4) for target in targets],
        "methods": methods,
    }


def thresholds_of(found: dict[str, Any]) -> Thresholds:
    """Of what `levels` found."""
    return Thresholds.from_config(found["thresholds"])
