"""A policy as one of llama-cpp-python's logits processors. Nothing of that package is imported."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from gibbsian._errors import ArgumentError
from gibbsian.integrations.serving import SEED, filter_rows, request_from_parameters
from gibbsian.sampling.policies import Policy

Processor: TypeAlias = Callable[[NDArray[np.intc], NDArray[np.float32]], NDArray[np.float32]]
"""(tokens so far, scores (states,)) -> scores."""

NEUTRAL: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "mirostat_mode": 0,
}
"""Arguments of `create_completion` and `create_chat_completion` that leave the draw to the
processor: llama.cpp's own penalties, filters and temperature run behind it, on what it has left,
and some of them are on where nothing is given."""


class EntropicLogitsProcessor:
    """Leaves the tokens that a policy lets be drawn, at the policy's temperature.

    One text at a time, as llama-cpp-python writes them. It is followed by its tokens: a call that
    goes on where the last one was, by one token, belongs to the same text; any other begins one.

    Without a seed llama.cpp draws, with its own `seed=`; the actions BRANCH and RESAMPLE are
    ordinary draws, and so is a choice among candidates. INSERT leaves the one token.

    Args:
        policy: what decides.
        seed: None, or a number: then the token is drawn here, from the stream of this seed, and is
            the only one left. The same seed gives the same tokens on every engine.
        states: size of the vocabulary, `llama.n_vocab()`. With it a policy that does not fit is
            refused here. llama.cpp can only print an error that arises later, and goes on.

    Raises:
        ArgumentError: a policy that does not fit one text, a seed that is no integer.

    Notes:
        A draft model shows tokens before they are taken: not for a seed or a policy with a memory.
        A grammar acts behind the processor and may forbid all that it has left.

    Example:
        >>> from gibbsian.sampling.policies import EDT
        >>> processors = ProcessorList([EntropicLogitsProcessor(EDT(), seed=1)])
        >>> llama("It was", logits_processor=processors, **NEUTRAL)  # doctest: +SKIP
    """

    def __init__(
        self, policy: Policy, *, seed: int | None = None, states: int | None = None
    ) -> None:
        given = {} if seed is None else {SEED: seed}
        self._request = request_from_parameters(given, default=policy, states=states)
        self._last: NDArray[np.intc] | None = None

    def __call__(
        self, input_ids: NDArray[np.intc], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scores of the tokens that may be drawn, the others -inf.

        Args:
            input_ids: (length,), prompt and text so far.
            scores: (states,), of the next token.
        """
        taken = self._taken(input_ids)
        # a copy: both arrays are views of memory that llama.cpp writes again
        row = torch.from_numpy(np.array(scores, dtype=np.float32))
        kept: NDArray[np.float32] = filter_rows(row[None], [self._request], [taken])[0].numpy()
        return kept

    def _taken(self, input_ids: NDArray[np.intc]) -> int | None:
        last, self._last = self._last, np.array(input_ids)
        if last is None or not np.array_equal(input_ids[:-1], last):
            return None
        return int(input_ids[-1])


class ProcessorList(list[Processor]):
    """`llama_cpp.LogitsProcessorList`, but for what that does with `logit_bias`: forget both."""

    def extend(self, values: Iterable[Processor]) -> NoReturn:
        """Refuse what `logit_bias` is made into; llama-cpp-python would forget the whole list.

        Raises:
            ArgumentError: always.
        """
        del values
        raise ArgumentError(
            "`logit_bias` cannot be given together with a logits processor: llama-cpp-python drops "
            "both. Put a processor that adds the bias into the list, before the policy's."
        )
