"""A policy as one of transformers' logits processors."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor

from gibbsian.sampling.policies import Policy, PolicyState
from gibbsian.statistics import row_statistics

NEUTRAL: dict[str, Any] = {
    "do_sample": True,
    "temperature": 1.0,
    "top_h": None,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
"""Arguments of `generate` that leave the draw to the processor: transformers' own temperature and
filters run behind it, on what it has left, and many models bring some in generation_config.json."""


class EntropicLogitsProcessor(LogitsProcessor):
    """Leaves, of every row, the tokens that the policy lets be drawn, at the policy's temperature.

    Use it where `custom_generate` cannot be used: with beams, assistants, continuous batching. The
    actions BRANCH and RESAMPLE are ordinary draws here, and one token is drawn where the policy
    wants the best of several: these need `gibbsian_generate`. INSERT leaves the one token.

    A policy that remembers something (`mirostat`, `quadrant`) is followed from step to step by the
    tokens that were taken: rows are recognised by their text, so beams may change their order, and
    another prompt starts anew. `supports_continuous_batching` is True for the policies that
    remember nothing: there a processor is not told whose rows it sees.

    Args:
        policy: what decides.

    Example:
        >>> from gibbsian.sampling.policies import EDT
        >>> processor = EntropicLogitsProcessor(EDT())
        >>> model.generate(**inputs, logits_processor=[processor], **NEUTRAL)  # doctest: +SKIP
    """

    supports_continuous_batching: bool

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.supports_continuous_batching = not policy.remembers
        self._last: _Step | None = None

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores of the tokens that may be drawn, the others -inf.

        Args:
            input_ids: (batch, length), the tokens so far; of no use to policies without memory.
            scores: (batch, states), of the next token.
        """
        statistics = row_statistics(scores)
        if self.supports_continuous_batching:
            state = self.policy.start(scores.shape[0], scores.device)
        else:
            state = self._state(input_ids, scores)
        decision, remembered = self.policy.decide(statistics, state)
        if not self.supports_continuous_batching:
            self._last = _Step(input_ids, scores, statistics.log_partition, remembered)
        return decision.apply(scores)

    def _state(self, input_ids: Tensor, scores: Tensor) -> PolicyState:
        last = self._last
        if last is None or input_ids.shape[1] != last.input_ids.shape[1] + 1:
            return self.policy.start(scores.shape[0], scores.device)
        same = (input_ids[:, None, :-1] == last.input_ids[None]).all(dim=-1)
        if not bool(same.any(dim=1).all()):
            return self.policy.start(scores.shape[0], scores.device)
        # its own row where that fits: another of equal text may be about another image, or have
        # another text in its encoder
        own = torch.eye(*same.shape, dtype=torch.int64, device=same.device)
        index = (2 * same + own).argmax(dim=1)
        taken = last.scores[index].gather(-1, input_ids[:, -1:]).squeeze(-1)
        surprisal = (last.log_partition[index] - taken.to(last.log_partition)).clamp_min(0.0)
        return self.policy.observe(last.remembered.rows(index), surprisal)


class _Step(NamedTuple):
    """What was seen when the last token was decided on."""

    input_ids: Tensor
    scores: Tensor
    log_partition: Tensor
    remembered: PolicyState
