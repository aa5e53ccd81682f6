"""Both of vLLM's model runners as far as a logits processor sees them, and texts to run in them.

The classes here that stand in for vLLM's have the fields that vLLM gives theirs; test_interface.py
runs the same texts through vLLM's own.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from gibbsian.integrations.vllm import EntropicRows
from gibbsian.sampling import start, step
from gibbsian.sampling.policies import policy_from_text

STATES = 40
SLOTS = 8


@dataclass
class SamplingParams:
    extra_args: dict[str, Any] | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    n: int = 1


class MoveDirectionality(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass(frozen=True)
class BatchUpdate:
    batch_size: int
    removed: list
    added: list
    moved: list


@dataclass(frozen=True)
class LogitsContext:
    expanded_idx_mapping: torch.Tensor
    idx_mapping: torch.Tensor
    idx_mapping_np: np.ndarray
    expanded_local_pos: torch.Tensor
    input_ids: torch.Tensor
    pos: torch.Tensor
    seq_lens_upper_bound_np: np.ndarray


def configuration(*, seed=0, speculative=None):
    model = SimpleNamespace(seed=seed, get_vocab_size=lambda: STATES)
    return SimpleNamespace(model_config=model, speculative_config=speculative)


def slots():
    lengths = {
        name: SimpleNamespace(np=np.zeros(SLOTS, dtype=np.int32))
        for name in ("prompt_len", "prefill_len")
    }
    return SimpleNamespace(device=torch.device("cpu"), max_num_reqs=SLOTS, **lengths)


def first(cls=EntropicRows, **options):
    return cls(configuration(**options), torch.device("cpu"), False)


def second(state, cls=EntropicRows, **options):
    return cls(configuration(**options), state)


@dataclass(eq=False)
class Text:
    """A request, and what becomes of it; the model gives `logits(n)` for its n-th token."""

    number: int
    policy: str | None = None
    seed: int | None = None
    prompt: list[int] = field(default_factory=lambda: [1, 2, 3])
    make: Any = SamplingParams

    def __post_init__(self):
        given = {"gibbsian_policy": self.policy, "gibbsian_seed": self.seed}
        given = {name: value for name, value in given.items() if value is not None}
        self.parameters = self.make(extra_args=given or None)
        self.output: list[int] = []

    def logits(self, produced):
        generator = torch.Generator().manual_seed(1000 * self.number + produced)
        return 3 * torch.randn(STATES, generator=generator)

    def take(self, row):
        """Go on with the token of a row of processed logits."""
        if self.policy is None:
            untouched = self.logits(len(self.output))
            assert torch.equal(row, untouched), "a row without a policy was touched"
        else:
            assert int(row.gt(-torch.inf).sum()) == 1
        self.output.append(int(row.argmax()))

    def expected(self, count=None):
        """The tokens if it were alone in the world, from gibbsian's own step."""
        count = len(self.output) if count is None else count
        if self.policy is None:
            return [int(self.logits(n).argmax()) for n in range(count)]
        policy = policy_from_text(self.policy)
        state, tokens = start(policy, 1, seed=self.seed), []
        for n in range(count):
            token, state, _ = step(self.logits(n)[None], state, policy=policy)
            tokens.append(int(token))
        return tokens


POLICIES = ("edt", "mirostat:target=1.0,rate=2.0", "quadrant", "adaptive")


def texts(make=SamplingParams):
    """A few of each policy, and some with none."""
    chosen = [*POLICIES, None, *POLICIES, None, *POLICIES]
    return [
        Text(i, policy, None if policy is None else 7 * i, make=make)
        for i, policy in enumerate(chosen)
    ]
