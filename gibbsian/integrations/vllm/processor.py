"""Both of vLLM's interfaces for logits processors, in one class that needs no vLLM.

Version 1 numbers requests by their rows and says when rows change; version 2 numbers them by slots
that they keep, and says with each call whose rows it brings.
"""

import logging
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.integrations.serving import Request
from gibbsian.integrations.vllm.parameters import (
    SamplingParameters,
    check,
    default_policy,
    request_of,
)
from gibbsian.integrations.vllm.rows import Place, Sequence, Sequences

_LOG = logging.getLogger("vllm.gibbsian")


@runtime_checkable
class BatchUpdate(Protocol):
    """What is read of version 1's `BatchUpdate`: to be done in this order."""

    removed: Any
    """Rows."""
    added: Any
    """(row, sampling parameters, prompt, list of the output's tokens that the engine extends)."""
    moved: Any
    """(row, row, one way or a swap)."""


@runtime_checkable
class LogitsContext(Protocol):
    """What is read of version 2's `LogitsContext`."""

    idx_mapping_np: Any
    """(requests,) slots, on the host."""
    seq_lens_upper_bound_np: Any
    """(requests,) tokens up to the one to come, on the host; exact without drafts."""
    expanded_idx_mapping: Tensor
    """(rows,) slots."""
    pos: Tensor
    """(rows,) position of the last token before the one to come."""


class EntropicRows:
    """Applies the policies of requests to their rows; the others pass untouched.

    Args:
        vllm_config: vLLM's configuration.
        place: version 1: the device; version 2: the state of the slots.
        is_pin_memory: version 1 only.
    """

    def __init__(self, vllm_config: Any, place: Any, is_pin_memory: bool | None = None) -> None:
        del is_pin_memory
        model = vllm_config.model_config
        self._states: int = model.get_vocab_size()
        self._default = default_policy(self._states)
        self._sequences = Sequences(model.seed or 0)
        self._slots = place
        self._drafts = vllm_config.speculative_config is not None

    @classmethod
    def validate_params(cls, sampling_params: SamplingParameters) -> None:
        """Refuse a request before it reaches the engine: the server answers 400.

        Raises:
            ArgumentError: with one line for the client.
        """
        check(sampling_params)

    def is_argmax_invariant(self) -> bool:
        """Version 1: no, a token may be drawn here."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Version 1: requests come, go and change rows."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._sequences.remove(row)
        for row, parameters, _, output in batch_update.added:
            sequence = self._add(row, parameters, len(output))
            if sequence is not None:
                sequence.output = output
        for old, new, direction in batch_update.moved:
            self._sequences.move(old, new, swap=direction.name == "SWAP")

    def add_request(self, req_idx: int, sampling_params: SamplingParameters) -> bool:
        """Version 2: a request enters a slot. Whether it has a policy."""
        produced = int(self._slots.prefill_len.np[req_idx] - self._slots.prompt_len.np[req_idx])
        return self._add(req_idx, sampling_params, produced) is not None

    def apply_staged_writes(self) -> None:
        """Version 2: nothing is kept on the device."""

    def apply(
        self, logits: Float[Tensor, "rows states"], ctx: LogitsContext | None = None
    ) -> Float[Tensor, "rows states"]:
        """Leaves of the rows with a policy what it lets be drawn; version 2 gives `ctx`."""
        if not self._sequences:
            return logits
        rows = logits.shape[0]
        places = self._rows(rows) if ctx is None else self._expanded_rows(rows, ctx)
        return self._sequences.filter(logits, places)

    def _add(self, number: int, parameters: SamplingParameters, produced: int) -> Sequence | None:
        request, seed = self._request(parameters), parameters.seed
        return self._sequences.add(number, request, parameters, produced=produced, seed=seed)

    def _request(self, parameters: SamplingParameters) -> Request | None:
        try:
            return request_of(parameters, default=self._default, states=self._states)
        except ArgumentError as error:
            # A token beyond the vocabulary, which `validate_params` does not know. An error here
            # would end the server, with the requests of everybody else.
            _LOG.error("A request goes on without its policy: %s", error)
            return None

    def _rows(self, number: int) -> list[Place]:
        found = ((row, self._sequences.get(row)) for row in range(number))
        return [Place(row, s, len(s.output)) for row, s in found if s is not None]

    def _expanded_rows(self, rows: int, ctx: LogitsContext) -> list[Place]:
        if self._drafts or rows != len(ctx.idx_mapping_np):
            # waits for the device: how many drafts were taken is known only there
            slots, lengths = ctx.expanded_idx_mapping.tolist(), (ctx.pos + 1).tolist()
        else:
            slots, lengths = ctx.idx_mapping_np.tolist(), ctx.seq_lens_upper_bound_np.tolist()
        places = []
        for row, (slot, length) in enumerate(zip(slots, lengths, strict=False)):
            sequence = self._sequences.get(slot)
            # while a prompt is read in pieces a row stands for no token
            if sequence is not None and length >= self._slots.prefill_len.np[slot]:
                places.append(Place(row, sequence, int(length - self._slots.prompt_len.np[slot])))
        return places
