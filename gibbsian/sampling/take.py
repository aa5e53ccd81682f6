"""From a decision to a token: filters, draw, and what they say about themselves."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from gibbsian._dispatch import Backend, runs_on_cpu_kernels
from gibbsian.sampling.decision import Decision, per_row
from gibbsian.sampling.draw import draw
from gibbsian.sampling.stream import uniforms
from gibbsian.statistics import GibbsStatistics, row_statistics


class Taken(NamedTuple):
    """A token of every row, one number a row in each field."""

    token: Integer[Tensor, "batch"]
    """The token."""
    surprisal: Float[Tensor, "batch"]
    """Of it under the model at temperature 1, nats."""
    kept: Integer[Tensor, "batch"]
    """How many tokens could be drawn."""
    temperature: Float[Tensor, "batch"]
    """Used."""
    zeta: Float[Tensor, "batch"]
    """Used."""


def take(
    logits: Float[Tensor, "batch states"],
    statistics: GibbsStatistics,
    decision: Decision,
    seed: Integer[Tensor, "batch"],
    count: Integer[Tensor, "batch"],
    *,
    uniform: Float[Tensor, "batch draws"] | None = None,
    backend: Backend = "auto",
) -> Taken:
    """The token of every row; called without gradients.

    Args:
        logits: of the model.
        statistics: of the logits.
        decision: for the same rows.
        seed: of each row's stream.
        count: how many tokens the row has drawn.
        uniform: numbers to draw with in place of the streams'.
        backend: see docs/usage/backends.md. Both give the same tokens and pools.

    Raises:
        ArgumentError: a token to insert that is not in the vocabulary.
        BackendUnavailableError: the backend asked for cannot run this call.
    """
    if not runs_on_cpu_kernels(backend, logits, obstacles=decision.obstacles(logits)):
        if uniform is None:
            uniform = uniforms(seed, count, decision.candidates)
        return _by_reference(logits, statistics, decision, uniform)
    # numba takes half a second to import: only where it is used
    from gibbsian.sampling.cpu import layout  # noqa: PLC0415
    from gibbsian.sampling.cpu.rows import take_rows  # noqa: PLC0415

    rows = logits.detach().float().contiguous()
    integers, numbers, drawn = take_rows(
        rows, statistics.max_score, statistics.min_entropy, decision, seed, count, uniform
    )
    taken = Taken(
        torch.from_numpy(integers[layout.TOKEN]),
        torch.from_numpy(numbers[layout.SURPRISAL]),
        torch.from_numpy(integers[layout.KEPT]),
        torch.from_numpy(numbers[layout.USED_TEMPERATURE]),
        torch.from_numpy(numbers[layout.USED_ZETA]),
    )
    if integers[layout.DOUBTFUL].any():
        index = torch.from_numpy(integers[layout.DOUBTFUL]).nonzero()[:, 0]
        again = _by_reference(
            rows[index],
            row_statistics(rows[index]),
            decision.rows(index),
            torch.from_numpy(drawn)[index],
        )
        for field, right in zip(taken, again, strict=True):
            field[index] = right
    return taken


def _by_reference(
    logits: Tensor, statistics: GibbsStatistics, decision: Decision, uniform: Tensor
) -> Taken:
    filtered, temperature = decision.left(logits)
    drawn = draw(filtered, uniform)
    scores = logits.gather(-1, drawn).to(statistics.entropy.dtype)
    surprisal = (statistics.log_partition.unsqueeze(-1) - scores).clamp_min(0.0)
    if decision.candidates > 1:
        best = decision.score(-surprisal).argmax(dim=-1, keepdim=True)
        drawn, surprisal = drawn.gather(-1, best), surprisal.gather(-1, best)
    kept = torch.ne(filtered, -torch.inf, out=torch.empty_like(filtered)).sum(dim=-1).long()
    zeta = per_row("zeta", decision.zeta, filtered)
    return Taken(drawn[:, 0], surprisal[:, 0], kept, temperature, zeta)
