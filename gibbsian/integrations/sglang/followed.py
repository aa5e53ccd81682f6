"""Which token of which request a row of SGLang's batch is about.

A scheduler may call a processor before a prompt is read whole, may take a step back, and, where it
runs ahead of its results (its default), calls before it knows the last token.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.integrations.serving import SEED, Request
from gibbsian.sampling.policies import PolicyState

_DRAWN_HERE = 0
"""Stands for a token that `Request` knows better: it has drawn it."""


@dataclass(kw_only=True, slots=True, eq=False)
class Followed:
    """One of SGLang's requests, followed from call to call."""

    request: Request
    """What it asks for."""
    _step: int | None = field(default=None, init=False)
    """Number of the token that the last call was about."""
    _prefilled: int = field(default=0, init=False)
    """Tokens written when the prompt was last read."""
    _before: tuple[PolicyState | None, Tensor | None] = field(default=(None, None), init=False)
    """What the request remembered before the last call."""

    def follows(self) -> bool:
        """Whether anything must be known of the tokens before."""
        return self.request.seed is not None or self.request.policy.remembers

    def taken(self, engine: Any) -> int | None:
        """The token written since the last step, for `filter_rows`; None at the beginning.

        Args:
            engine: SGLang's own request, `Req`, or a weak reference.

        Raises:
            ArgumentError: it is not known, or steps were left out.
        """
        written, decoded = len(engine.output_ids), engine.decode_batch_idx
        if decoded == 0:
            self._prefilled = written
        step = self._prefilled + decoded
        request = self.request
        request.drawn = step
        if request.policy.remembers:
            self._remember(step)
        if step == 0:
            return None
        if request.seed is not None:
            return _DRAWN_HERE
        if written < step:
            raise ArgumentError(
                f"policy {request.policy.name!r} remembers tokens, which this server does not "
                f"know in time. Start it with --disable-overlap-schedule, or give `{SEED}`."
            )
        return int(engine.output_ids[-1])

    def _remember(self, step: int) -> None:
        request = self.request
        if step == self._step:
            # again: the token of the last call was not taken
            request.memory, request.scores = self._before
        elif step > 0 and step - 1 != self._step:
            raise ArgumentError(
                f"policy {request.policy.name!r} remembers tokens and has not seen all of them: "
                "not with speculative decoding, nor with prompts that another server reads."
            )
        self._before = (request.memory, request.scores)
        self._step = step
