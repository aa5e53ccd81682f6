"""What SGLang 0.5.23 does around a custom logit processor, written from its sources.

`Req.__init__` (managers/schedule_batch.py) puts a weak reference to itself among a copy of the
parameters; `SamplingBatchInfo.from_schedule_batch` makes a processor for each batch and merges the
rows of equal ones; `apply_custom_logit_processor` (layers/sampler.py) hands it copies of its rows;
the scheduler appends the token to `output_ids` when it handles the result: before the next step, or
after it where it runs ahead (`overlap`). test_engine.py runs the real files where they are.
"""

import sys
import types
import weakref
from array import array
from dataclasses import dataclass, field
from typing import Any

import torch

PARAMETERS = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 1 << 30,
    "min_p": 0.0,
    "n": 1,
    "sampling_seed": None,
}


class FINISH_ABORT:  # noqa: N801  (SGLang's name)
    def __init__(self, message=None, status_code=None, err_type=None):
        self.message, self.status_code, self.err_type = message, status_code, err_type


@dataclass(eq=False)
class Req:
    custom_params: Any
    parameters: dict[str, Any] = field(default_factory=dict)
    rid: str = "a"
    output_ids: Any = field(default_factory=lambda: array("q"))
    decode_batch_idx: int = 0
    to_finish: Any = None
    pending: int | None = None
    """A token that has been drawn and is not among `output_ids` yet."""

    def __post_init__(self):
        params = self.custom_params
        if isinstance(params, dict):
            params |= {"__req__": weakref.proxy(self)}
        self.sampling_params = types.SimpleNamespace(
            **(PARAMETERS | self.parameters), custom_params=params
        )

    def settle(self):
        """The scheduler handles the result of the last step."""
        if self.pending is not None:
            self.output_ids.append(self.pending)
            self.pending = None

    def retract(self):
        """Out of memory: what is pending is lost, and prompt and tokens are read again."""
        self.pending, self.decode_batch_idx = None, 0


def install(monkeypatch):
    """The one module of the server that the processor imports."""
    module = types.ModuleType("sglang.srt.managers.schedule_batch")
    module.FINISH_ABORT = FINISH_ABORT
    for name in ("sglang", "sglang.srt", "sglang.srt.managers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["sglang.srt.managers"].schedule_batch = module
    monkeypatch.setitem(sys.modules, module.__name__, module)


@dataclass
class Server:
    """Runs requests step by step on given logits, and takes the most probable token left."""

    load: Any
    """What makes a processor: SGLang makes another for every batch."""
    overlap: bool = False

    def read(self, reqs, logits, *, whole=True):
        """Prompts are read; those that are not read whole yet get no token."""
        return self._step(reqs, logits, keep=whole)

    def decode(self, reqs, logits):
        """The next tokens."""
        if not self.overlap:
            settle(reqs)
        for req in reqs:
            req.decode_batch_idx += 1
        return self._step(reqs, logits, keep=True)

    def _step(self, reqs, logits, *, keep):
        logits = logits.clone()
        rows = [i for i, req in enumerate(reqs) if req.custom_params is not None]
        if rows:
            index = torch.tensor(rows)
            given = [reqs[i].sampling_params.custom_params for i in rows]
            logits.index_copy_(0, index, self.load()(logits.index_select(0, index), given))
        settle(reqs)
        for req, token in zip(reqs, logits.argmax(dim=-1).tolist(), strict=True):
            req.pending = token if keep else None
        return logits


def settle(reqs):
    for req in reqs:
        req.settle()
