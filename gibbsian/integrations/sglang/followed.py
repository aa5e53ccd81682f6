"""Which token of which request a row of SGLang's batch is about.

A scheduler may call a processor before a prompt is read whole, may take a step back, and, where it
runs ahead of its results (its default), calls before it knows the last token. So requests that
need the tokens before have them drawn here.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from gibbsian._errors import ArgumentError
from gibbsian.integrations.serving import Request
from gibbsian.sampling.policies import PolicyState

_DRAWN = 0
"""For `filter_rows`: some token was taken. Which one does not matter, it was drawn here."""


@dataclass(kw_only=True, slots=True, eq=False)
class Followed:
    """One of SGLang's requests, followed from call to call."""

    request: Request
    """What it asks for."""
    _step: int | None = field(default=None, init=False)
    """Number of the token that the last call was about."""
    _prefilled: int = field(default=0, init=False)
    """Tokens written when the prompt was last read."""
    _before: PolicyState | None = field(default=None, init=False)
    """What the policy remembered before the last call."""

    def turn_to_token(self, engine: Any) -> int | None:
        """Turn the request to the token to come; what `filter_rows` is to be told was taken.

        Args:
            engine: SGLang's own request, `Req`, or a weak reference.

        Raises:
            ArgumentError: the policy remembers tokens, and some were left out.
        """
        written, decoded = len(engine.output_ids), engine.decode_batch_idx
        if decoded == 0:
            self._prefilled = written
        step = self._prefilled + decoded
        request = self.request
        request.drawn = step
        if request.policy.remembers:
            self._turn_memory(step)
        return None if step == 0 else _DRAWN

    def _turn_memory(self, step: int) -> None:
        request = self.request
        if step == self._step:
            # again: the token of the last call was not taken
            request.memory = self._before
        elif step > 0 and step - 1 != self._step:
            raise ArgumentError(
                f"policy {request.policy.name!r} remembers tokens and has not seen all of them: "
                "not with speculative decoding, nor with prompts that another server reads."
            )
        self._before, self._step = request.memory, step


def seed_of(name: str) -> int:
    """A seed for a request that gives none and needs one, equal in all processes of a server.

    Args:
        name: of the request; SGLang gives each another.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
