"""The sequences that an engine runs, and their rows of logits."""

from collections import deque
from collections.abc import Iterable, Sized
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian.integrations.serving import Request, filter_rows
from gibbsian.sampling.policies import PolicyState

_RECENT = 1024
_UNKNOWN = -1
"""For `filter_rows`: some token was taken. Which one does not matter, see `Sequences.add`."""


class Sequence:
    """A request of the engine, and what its policy remembered before each token to come.

    An engine may ask for the same token again (while it reads a prompt in pieces, after it has set
    a request aside) and for several at once (while it checks drafts).
    """

    def __init__(self, request: Request, parameters: object) -> None:
        self.request = request
        self.parameters = parameters
        self.output: Sized = ()
        self._memories: dict[int, PolicyState | None] = {}

    def begin(self, produced: int) -> None:
        """Turn to the token after the first `produced` ones of the text."""
        self.request.drawn = produced
        if self.request.policy.remembers:
            self.request.memory = self._memories.get(produced)

    def end(self, produced: int) -> None:
        """Keep what the policy remembers for the token after that."""
        if self.request.policy.remembers:
            self._memories[produced + 1] = self.request.memory

    def forget(self, produced: int) -> None:
        """The first `produced` tokens of the text are final."""
        for earlier in [n for n in self._memories if n < produced]:
            del self._memories[earlier]


class Place(NamedTuple):
    """Whose row of logits it is, and of which token."""

    row: int
    sequence: Sequence
    produced: int
    """Tokens of the text before it, the prompt not among them."""


class Sequences:
    """All sequences with a policy, by the engine's number for them.

    Args:
        seed: of the seeds given to requests that have none and need one; the same in all processes
            that work on one model.
    """

    def __init__(self, seed: int) -> None:
        self._active: dict[int, Sequence] = {}
        self._recent: deque[Sequence] = deque(maxlen=_RECENT)
        self._generator = torch.Generator().manual_seed(seed)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._active)

    def get(self, number: int) -> Sequence | None:
        """The sequence with this number, if it has a policy."""
        return self._active.get(number)

    def add(
        self,
        number: int,
        request: Request | None,
        parameters: object,
        *,
        produced: int,
        seed: int | None,
    ) -> Sequence | None:
        """A sequence enters; it may have been here before. None if it asks for nothing.

        A policy that remembers has to know the tokens taken, which an engine may tell too late:
        its tokens are drawn here, from `seed` if the request has none of its own.

        Args:
            number: the engine's, of no other sequence from now on.
            request: what it asks for; None = nothing.
            parameters: the engine's object that comes with it, the same when it comes back.
            produced: tokens of its text so far.
            seed: the engine's own; None = a fresh one.
        """
        self._active.pop(number, None)
        if request is None:
            return None
        if not request.policy.remembers:
            return self._active.setdefault(number, Sequence(request, parameters))
        if request.seed is None:
            if seed is None:
                seed = int(torch.randint(1 << 62, (), generator=self._generator))
            request = Request(policy=request.policy, seed=seed)
        before = [s for s in self._recent if s.parameters is parameters] if produced else []
        if len(before) == 1:  # with several it is not known which of them comes back
            sequence = before[0]
        else:
            sequence = Sequence(request, parameters)
            self._recent.append(sequence)
        self._active[number] = sequence
        return sequence

    def remove(self, number: int) -> None:
        """A sequence leaves, for now or for ever."""
        self._active.pop(number, None)

    def move(self, old: int, new: int, *, swap: bool) -> None:
        """A sequence takes another number, or two take each other's."""
        first, second = self._active.pop(old, None), self._active.pop(new, None)
        if first is not None:
            self._active[new] = first
        if swap and second is not None:
            self._active[old] = second

    @staticmethod
    def filter(
        logits: Float[Tensor, "rows states"], places: Iterable[Place]
    ) -> Float[Tensor, "rows states"]:
        """Leaves of each place what its policy lets be drawn. Changes `logits`.

        Args:
            logits: of the next tokens; rows without a place are not touched.
            places: of one sequence in the order of their tokens.
        """
        waiting = list(places)
        firsts = {id(place.sequence): place for place in reversed(waiting)}
        for place in firsts.values():
            place.sequence.forget(place.produced)
        while waiting:
            requests: list[Request | None] = [None] * logits.shape[0]
            taken: list[int | None] = [None] * logits.shape[0]
            turn: dict[int, Place] = {}
            later = []
            for place in waiting:
                if turn.setdefault(id(place.sequence), place) is place:
                    place.sequence.begin(place.produced)
                    requests[place.row] = place.sequence.request
                    taken[place.row] = _UNKNOWN if place.produced else None
                else:
                    later.append(place)
            logits = filter_rows(logits, requests, taken)
            for place in turn.values():
                place.sequence.end(place.produced)
            waiting = later
        return logits
