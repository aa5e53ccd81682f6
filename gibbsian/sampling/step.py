"""One token of every row: statistics, policy, decision, filters, draw."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.policies.base import Policy, PolicyState
from gibbsian.sampling.stream import row_seeds
from gibbsian.sampling.take import take
from gibbsian.statistics import GibbsStatistics, row_statistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SamplerState:
    """All that sampling remembers between two tokens, one entry a row."""

    seed: Integer[Tensor, "batch"]
    """Which random stream the row draws from."""
    count: Integer[Tensor, "batch"]
    """How many tokens the row has drawn."""
    policy: PolicyState
    """What the policy remembers."""

    def rows(self, index: Integer[Tensor, "chosen"]) -> "SamplerState":
        """The state of some of the rows, in the order of `index`: they draw as if alone."""
        return SamplerState(
            seed=self.seed[index], count=self.count[index], policy=self.policy.rows(index)
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepInfo:
    """What happened in one step, one number a row."""

    entropy: Float[Tensor, "batch"]
    """S of the model's distribution at temperature 1, nats."""
    varentropy: Float[Tensor, "batch"]
    """V of the same, nats squared."""
    temperature: Float[Tensor, "batch"]
    """T used; 0 = greedy."""
    zeta: Float[Tensor, "batch"]
    """Sparsity used; 0 = softmax."""
    kept: Integer[Tensor, "batch"]
    """Number of tokens that could be drawn."""
    surprisal: Float[Tensor, "batch"]
    r"""$-\log p$ of the token under the model at temperature 1, nats."""
    action: Integer[Tensor, "batch"]
    """`Action` of the row."""
    branch: Integer[Tensor, "batch"]
    """Index into the policy's `branches`."""


class StepResult(NamedTuple):
    """What `step` returns; unpacks as `token, state, info`."""

    token: Integer[Tensor, "batch"]
    """Tokens taken, int64."""
    state: SamplerState
    """For the next step."""
    info: StepInfo
    """What happened."""


def start(
    policy: Policy,
    batch_size: int,
    *,
    seed: int | Integer[Tensor, "batch"] | None = None,
    device: torch.device | str = "cpu",
) -> SamplerState:
    """The state of rows that have drawn nothing yet.

    Args:
        policy: what will decide.
        batch_size: number of rows.
        seed: a number (row i's stream then depends on it and i), or a tensor with one a row; None
            = a fresh one from torch's global generator: two calls draw differently.
        device: of the logits to come.

    Raises:
        ArgumentError: a tensor of seeds of another size, a seed that is no integer, or no policy.
    """
    if not isinstance(policy, Policy):
        raise ArgumentError(
            f"`policy` must be a policy, got {policy!r}. `policy_from_text` makes one of a text."
        )
    if isinstance(seed, Tensor):
        if seed.shape != (batch_size,):
            raise ArgumentError(
                f"`seed` must have one number for each of the {batch_size} rows, got shape "
                f"{tuple(seed.shape)}. One number seeds them all."
            )
        if seed.is_floating_point() or seed.is_complex() or seed.dtype == torch.bool:
            raise ArgumentError(
                f"`seed` must be a tensor of integers, got {seed.dtype}. Round it as you mean it."
            )
        seeds = seed.to(device, torch.int64)
    else:
        if seed is None:
            seed = int(torch.randint(1 << 62, ()))
        if not isinstance(seed, int):
            raise ArgumentError(f"`seed` must be an integer, got {seed!r}.")
        seeds = row_seeds(seed, batch_size, device)
    count = torch.zeros(batch_size, dtype=torch.int64, device=device)
    return SamplerState(seed=seeds, count=count, policy=policy.start(batch_size, device))


@torch.no_grad()
def step(
    logits: Float[Tensor, "batch states"],
    state: SamplerState,
    *,
    policy: Policy,
    generator: torch.Generator | None = None,
    attention: AttentionSignals | None = None,
    validate: bool = True,
) -> StepResult:
    """The next token of every row.

    Args:
        logits: of the model, any floating-point type; -inf marks a token that cannot be taken.
        state: from `start`, or from the step before; it is not changed.
        policy: what decides.
        generator: draw from it instead of from the rows' own streams; then a row's draw depends on
            the rows around it.
        attention: for policies that use it.
        validate: raise on NaN or +inf logits, and on a row with no token; on an accelerator it
            waits for the statistics. Without it such a row gets some token, the others theirs.

    Returns:
        `StepResult(token, state, info)`.

    Raises:
        ArgumentError: logits that validation refuses, or a state of another number of rows.

    Notes:
        A row's token depends on its logits, its part of the state and the policy alone: not on the
        rows around it, their number or their order.
    """
    if logits.dim() != 2:
        raise ArgumentError(
            f"`logits` must be (batch, states), got shape {tuple(logits.shape)}. "
            "One row is a batch of 1: `logits[None]`."
        )
    if state.seed.shape != logits.shape[:1]:
        raise ArgumentError(
            f"`state` must have one entry for each of the {logits.shape[0]} rows, got "
            f"{state.seed.shape[0]}. Pick rows with `state.rows(index)`."
        )
    statistics = row_statistics(logits)
    if validate:
        _check(statistics)
    decision, remembered = policy.decide(statistics, state.policy, attention)
    uniform = None
    if generator is not None:
        shape = (logits.shape[0], decision.candidates)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64, device=logits.device)
    taken = take(logits, statistics, decision, state.seed, state.count, uniform=uniform)
    info = StepInfo(
        entropy=statistics.entropy,
        varentropy=statistics.varentropy,
        temperature=taken.temperature,
        zeta=taken.zeta,
        kept=taken.kept,
        surprisal=taken.surprisal,
        action=_or_zero(decision.taken_action(logits), state.count),
        branch=_or_zero(decision.branch, state.count),
    )
    following = replace(
        state, count=state.count + 1, policy=policy.observe(remembered, info.surprisal)
    )
    return StepResult(taken.token, following, info)


def _or_zero(given: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if given is None else given


def _check(statistics: GibbsStatistics) -> None:
    """The largest score of a row is finite unless one is NaN or +inf, or none is present."""
    largest = statistics.max_score.tolist()
    row = next((i for i, found in enumerate(largest) if not math.isfinite(found)), None)
    if row is None:
        return
    found = largest[row]
    reason = "no token at all (all are -inf)" if found == -torch.inf else f"{found}"
    raise ArgumentError(
        f"`logits` must be finite or -inf with at least one token a row, got {reason} in row "
        f"{row}. Find where it arises; `validate=False` lets it pass."
    )
