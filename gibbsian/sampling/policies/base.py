"""What a policy is: statistics and state in, a decision and a new state out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_args

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.sampling.attention import AttentionSignals
from gibbsian.sampling.decision import Decision
from gibbsian.statistics import GibbsStatistics


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PolicyState:
    """What a policy remembers of each row, tensors (batch,); this one remembers nothing."""

    def rows(self, index: Integer[Tensor, "chosen"]) -> "PolicyState":
        """The state of some of the rows, in the order of `index`."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def join(states: "Sequence[PolicyState]") -> "PolicyState":
        """The rows of several states of one policy, one after the other."""
        first = states[0]
        named = {f.name: [getattr(state, f.name) for state in states] for f in fields(first)}
        return type(first)(**{name: torch.cat(values) for name, values in named.items()})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Policy(ABC):
    """A frozen description of how to decide; all it may look at are statistics.

    Rows do not see each other, and a policy keeps nothing itself: equal statistics and state give
    an equal decision.
    """

    name: ClassVar[str]
    """In configurations and on the command line."""
    branches: ClassVar[tuple[str, ...]] = ("draw",)
    """Names of what the policy distinguishes, in the order of `Decision.branch`."""

    @abstractmethod
    def decide(
        self,
        statistics: GibbsStatistics,
        state: PolicyState,
        attention: AttentionSignals | None = None,
    ) -> tuple[Decision, PolicyState]:
        """The decision for the next token of every row.

        Args:
            statistics: of the next-token distributions at temperature 1, each (batch,).
            state: from `start`, or from the step before.
            attention: what the model's attention tells; None where the model does not.
        """

    def start(self, batch_size: int, device: torch.device | str) -> PolicyState:
        """The state of rows that have drawn nothing yet."""
        del batch_size, device
        return PolicyState()

    @property
    def remembers(self) -> bool:
        """Whether what it decides depends on the steps before."""
        return type(self).start is not Policy.start

    def observe(self, state: PolicyState, surprisal: Float[Tensor, "batch"]) -> PolicyState:
        r"""The state after a token was taken.

        Args:
            state: as `decide` left it.
            surprisal: of that token under the model, $-\log p$ at temperature 1, nats.
        """
        del surprisal
        return state

    def to_config(self) -> dict[str, Any]:
        """JSON-able description, `{"name": ..., options}`; tensors become lists."""
        options = {f.name: self._encoded(getattr(self, f.name)) for f in fields(self)}
        return {"name": self.name, **options}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Policy":
        """Inverse of `to_config` without its name; options left out take their defaults.

        Raises:
            ArgumentError: an unknown or missing option, or a value out of range.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise ArgumentError(
                f"`{unknown[0]}` is not an option of policy {cls.name!r}. "
                f"It has {', '.join(sorted(known)) or 'none'}."
            )
        decoded = {key: cls._decoded(key, value) for key, value in options.items()}
        for f in fields(cls):
            if f.name in decoded:
                _check_type(f.name, decoded[f.name], f.type)
        try:
            return cls(**decoded)
        except TypeError as error:
            raise ArgumentError(f"`options` of policy {cls.name!r} do not fit: {error}.") from None

    @staticmethod
    def _encoded(value: Any) -> Any:
        return value.tolist() if isinstance(value, Tensor) else value

    @staticmethod
    def _decoded(key: str, value: Any) -> Any:
        del key
        return torch.tensor(value) if isinstance(value, list) else value


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Raises `ArgumentError` where a value out of JSON is not what the field is made for."""
    kinds = set(get_args(kind) or (kind,))
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, tuple(kinds - {int, float})) or (
        number and (float in kinds or (int in kinds and isinstance(value, int)))
    ):
        return
    words = {Tensor: "a list", type(None): "null", float: "a number", int: "an integer"}
    wanted = sorted(words.get(k, k.__name__) for k in kinds)
    raise ArgumentError(f"`{name}` must be {' or '.join(wanted)}, got {value!r}.")
