"""Actions that look ahead: follow several continuations of a row, and keep one."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel, cache_utils
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation.logits_process import UnbatchedClassifierFreeGuidanceLogitsProcessor

from gibbsian._errors import ArgumentError, UnsupportedModelError
from gibbsian.integrations.transformers.sampling.signals import SignalReader
from gibbsian.sampling import (
    Action,
    AttentionSignals,
    Decision,
    SamplerState,
    StepResult,
    draw,
    step,
    uniforms,
)
from gibbsian.sampling.policies import Policy, PolicyState
from gibbsian.statistics import GibbsStatistics, row_statistics

_ELSEWHERE = 0x5DEECE66D
"""Turns a row's seed into that of the stream its forks draw from."""
_NONE = -1
_LAYERS = tuple(
    getattr(cache_utils, name)
    for name in ("DynamicLayer", "DynamicSlidingWindowLayer", "DynamicIndexedLayer", "DummyLayer")
    if hasattr(cache_utils, name)
)
"""Of a cache: those that select all they have of a row, and put new tensors in place of old ones.
Not every version of transformers has the last."""


class Forks:
    """What the rows of one batch do at forks.

    Args:
        model: as in `gibbsian_generate`.
        policy: the same.
        processors: run on the logits of continuations too.
        reader: of attention, for continuations too.
        ends: tokens that end a continuation; None = none does.
        max_length: longest sequence; None = no limit.
        branches: continuations of `Action.BRANCH`, at least 1.
        branch_length: tokens of each, at least 1.
        resamples: draws of `Action.RESAMPLE`, at least 1.
        rows: number of rows.
        device: of the tokens.

    Raises:
        ArgumentError: a number below 1.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        policy: Policy,
        processors: LogitsProcessorList,
        reader: SignalReader,
        ends: Tensor | None,
        max_length: int | None,
        branches: int,
        branch_length: int,
        resamples: int,
        rows: int,
        device: torch.device,
    ) -> None:
        numbers = {"branches": branches, "branch_length": branch_length, "resamples": resamples}
        for name, number in numbers.items():
            if number < 1:
                raise ArgumentError(f"`{name}` must be an integer >= 1, got {number}. 1 is off.")
        self._model, self._policy = model, policy
        self._processors: Any = processors
        self._reader = reader
        self._ends, self._max_length = ends, max_length
        self._branches, self._branch_length = branches, branch_length
        self._resamples = resamples
        self._following = torch.full((rows, branch_length), _NONE, device=device)
        """Tokens of kept continuations that are still to be taken, first the next one."""

    def follow(
        self,
        result: StepResult,
        *,
        scores: Tensor,
        before: SamplerState,
        signals: AttentionSignals | None,
        input_ids: Tensor,
        model_kwargs: dict[str, Any],
        unfinished: Tensor,
    ) -> StepResult:
        """The result of a step with the tokens that the forks choose.

        Args:
            result: of `step`.
            scores: (batch, states), what it saw.
            before: the state it began from.
            signals: of the attention.
            input_ids: (batch, length), without the new token.
            model_kwargs: for the next forward call; only copies of its parts are changed.
            unfinished: (batch,), rows that are still written.
        """
        going = self._following[:, 0]
        self._following = torch.nn.functional.pad(self._following[:, 1:], (0, 1), value=_NONE)
        forced = (going != _NONE) & unfinished
        action = result.info.action
        lost, forking = action == Action.RESAMPLE, action == Action.BRANCH
        # a continuation was written without forks
        action = torch.where(forced & (lost | forking), int(Action.DRAW), action)
        free = unfinished & ~forced
        forking, lost = forking & free, lost & free
        room = self._room(input_ids.shape[1])
        counts = torch.stack([forced, forking, lost]).any(dim=1).tolist()
        forks = counts[1] and self._branches > 1, counts[2] and self._resamples > 1 and room > 1
        if not (counts[0] or any(forks)):
            return result
        statistics = row_statistics(scores)
        decision, remembered = self._policy.decide(statistics, before.policy, signals)
        fork = _Fork(
            scores=scores,
            statistics=statistics,
            decision=decision,
            remembered=remembered,
            before=before,
            input_ids=input_ids,
            model_kwargs=model_kwargs,
        )
        token = torch.where(forced, going, result.token)
        if forks[0]:
            length = min(self._branch_length, room)
            self._branch(fork, forking.nonzero().squeeze(-1), length, token)
        if forks[1]:
            self._resample(fork, lost.nonzero().squeeze(-1), token)
        taken = scores.gather(-1, token.unsqueeze(-1)).squeeze(-1).to(statistics.entropy)
        surprisal = (statistics.log_partition - taken).clamp_min(0.0)
        state = replace(result.state, policy=self._policy.observe(remembered, surprisal))
        info = replace(result.info, surprisal=surprisal, action=action)
        return StepResult(token, state, info)

    def _room(self, length: int) -> int:
        """Tokens that may still come, as far as that matters."""
        enough = self._branch_length + 1
        return enough if self._max_length is None else min(enough, self._max_length - length)

    def _branch(self, fork: "_Fork", rows: Tensor, length: int, token: Tensor) -> None:
        """Takes, of several continuations, that of the least mean surprisal."""
        several = self._branches
        drawn, surprisal, state = fork.draws(self._policy, rows, several)
        ahead = _Continuations(self._model, fork, rows, several)
        taken, total = [drawn], surprisal
        alive = ~self._ended(drawn)
        number = torch.ones_like(surprisal)
        newest = drawn
        for _ in range(length - 1):
            scores, signals = self._ahead(ahead, newest)
            newest, state, info = step(scores, state, policy=self._policy, attention=signals)
            total = total + torch.where(alive, info.surprisal, 0.0)
            number = number + alive
            taken.append(torch.where(alive, newest, _NONE))
            alive = alive & ~self._ended(newest)
        mean = (total / number).unflatten(0, (-1, several))
        best = mean.argmin(dim=1) + torch.arange(len(rows), device=rows.device) * several
        kept = torch.stack(taken, dim=1)[best]
        token[rows] = kept[:, 0]
        self._following[rows, : length - 1] = kept[:, 1:]

    def _resample(self, fork: "_Fork", rows: Tensor, token: Tensor) -> None:
        """Takes the first of several draws that leads to where the policy does not resample."""
        several = self._resamples
        drawn, _, state = fork.draws(self._policy, rows, several)
        ahead = _Continuations(self._model, fork, rows, several)
        scores, signals = self._ahead(ahead, drawn)
        decision, _ = self._policy.decide(row_statistics(scores), state.policy, signals)
        out = self._ended(drawn)
        if decision.action is not None:
            out = out | (decision.action != Action.RESAMPLE)
        # the first that is out, of none the first
        rank = torch.arange(several, 0, -1, device=rows.device)
        first = (rank + several * out.unflatten(0, (-1, several))).argmax(dim=1, keepdim=True)
        token[rows] = drawn.unflatten(0, (-1, several)).gather(1, first).squeeze(1)

    def _ahead(
        self, ahead: "_Continuations", token: Tensor
    ) -> tuple[Tensor, AttentionSignals | None]:
        """What the continuations expect behind another token."""
        if any(
            isinstance(p, UnbatchedClassifierFreeGuidanceLogitsProcessor) for p in self._processors
        ):
            raise UnsupportedModelError(
                "`guidance_scale` keeps a cache that cannot be copied row by row, as branching and "
                "resampling need it. Give `branches=1, resamples=1`, or no `guidance_scale`."
            )
        logits = ahead.extend(token)
        signals = self._reader.read(ahead.outputs)
        return self._processors(ahead.input_ids, logits), signals

    def _ended(self, token: Tensor) -> Tensor:
        if self._ends is None:
            return torch.zeros_like(token, dtype=torch.bool)
        return torch.isin(token, self._ends.to(token.device))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Fork:
    """Where the rows stand."""

    scores: Tensor
    statistics: GibbsStatistics
    decision: Decision
    remembered: PolicyState
    before: SamplerState
    input_ids: Tensor
    model_kwargs: dict[str, Any]

    def draws(
        self, policy: Policy, rows: Tensor, several: int
    ) -> tuple[Tensor, Tensor, SamplerState]:
        """Tokens (rows * several,), their surprisal, and the states behind them.

        They come from a stream of the row that the row itself does not draw from.
        """
        before = self.before.rows(rows)
        numbers = uniforms(before.seed ^ _ELSEWHERE, before.count, 2 * several)
        filtered = self.decision.rows(rows).apply(self.scores[rows])
        token = draw(filtered, numbers[:, :several])
        taken = self.scores[rows].gather(-1, token).to(self.statistics.entropy)
        log_partition = self.statistics.log_partition[rows].unsqueeze(-1)
        surprisal = (log_partition - taken).clamp_min(0.0).flatten()
        index = torch.arange(len(rows), device=rows.device).repeat_interleave(several)
        remembered = self.remembered.rows(rows[index])
        state = SamplerState(
            seed=(numbers[:, several:] * 2.0**53).long().flatten(),
            count=before.count[index] + 1,
            policy=policy.observe(remembered, surprisal),
        )
        return token.flatten(), surprisal, state


class _Continuations:
    """Copies of rows, made once they are written further; the rows stay as they are."""

    def __init__(self, model: PreTrainedModel, fork: _Fork, rows: Tensor, several: int) -> None:
        self._index = rows.repeat_interleave(several)
        self._model: Any = model  # nn.Module's own annotations know nothing of generate's methods
        self._batch = fork.input_ids.shape[0]
        self._kwargs = fork.model_kwargs
        self.input_ids = fork.input_ids[self._index]
        """(rows * several, length)."""
        self.outputs: Any = None
        """Of the last forward call."""

    def extend(self, token: Tensor) -> Tensor:
        """Logits behind one more token of each."""
        model, kwargs = self._model, self._kwargs
        if self.outputs is None:
            kwargs = {k: _copied(k, v, self._index, self._batch) for k, v in kwargs.items()}
        else:
            kwargs = model._update_model_kwargs_for_generation(self.outputs, kwargs)  # noqa: SLF001
        self.input_ids = torch.cat([self.input_ids, token.unsqueeze(-1)], dim=-1)
        inputs = model.prepare_inputs_for_generation(
            self.input_ids, next_sequence_length=1 if kwargs["use_cache"] else None, **kwargs
        )
        self._kwargs, self.outputs = kwargs, model(**inputs, return_dict=True)
        logits: Tensor = self.outputs.logits[:, -1]
        return logits.to(dtype=torch.float32, device=self.input_ids.device)


def _copied(name: str, value: Any, index: Tensor, batch: int) -> Any:
    if isinstance(value, Tensor):
        return value[index] if value.dim() > 1 and value.shape[0] == batch else value
    if isinstance(value, Cache) and all(type(layer) in _LAYERS for layer in value.layers):
        return _copied_cache(value, index)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UnsupportedModelError(
        f"`{name}` of type {type(value).__name__} cannot be copied row by row, as branching and "
        "resampling need it. Give `branches=1, resamples=1`, or `use_cache=False`."
    )


def _copied_cache(cache: Cache, index: Tensor) -> Cache:
    """Nothing but the rows chosen is copied where that is safe."""
    if type(cache) in (Cache, DynamicCache):
        mine = copy.copy(cache)
        mine.layers = [copy.copy(layer) for layer in cache.layers]
    else:  # it may keep more than its layers
        mine = copy.deepcopy(cache)
    mine.batch_select_indices(index)
    return mine
