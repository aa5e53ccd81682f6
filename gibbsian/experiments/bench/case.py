"""What a benchmark case is: tensors, who computes on them, what is compared with what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Tensors: TypeAlias = Mapping[str, Tensor]
"""The tensors of a problem by name."""
Outputs: TypeAlias = tuple[Tensor, ...]
"""What an operation computes."""
Reference: TypeAlias = Callable[[Tensors, Tensor], Outputs]
"""Outputs in float64, from float64 tensors, of the rows with the given numbers only."""
Mode: TypeAlias = Literal["forward", "gradients", "iteration"]
"""What is timed: the call; the call and the gradients of its leaves; a call that does it all."""
Quantity: TypeAlias = Literal["seconds", "bytes"]
"""What is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """A contender that has its tensors and is ready to be called any number of times."""

    call: Callable[[], Outputs]
    """Computes the outputs."""
    leaves: Tensors
    """What gradients are taken of where the mode asks for gradients."""
    before: Callable[[], None] | None = None
    """Called before each call, and not timed."""
    after: Callable[[], None] | None = None
    """Called after each call, and not timed; raises if what the call left behind is no result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """How an operation's results compare with what they should be."""

    error: float
    """Largest error of a result, relative to the largest true value of its row; of a gradient, to
    that of the whole."""
    bound: float
    """What the error may be."""
    against: str
    """What it was compared with."""

    @property
    def passed(self) -> bool:
        """Whether the error is within the bound; a NaN is not."""
        return self.error <= self.bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One implementation in a case."""

    name: str
    """As shown, unique in its case."""
    prepare: Callable[[Tensors], Operation]
    """Takes the tensors in; whatever has to be done once is done here, untimed. An ImportError says
    that the package is missing."""
    reference: Reference | None = None
    """The truth. None = it computes something that only it defines: its results are required to be
    finite and not all zero."""
    check: Callable[[], Check] | None = None
    """A check of its own, in place of the comparison on the timed tensors."""
    bound: float = 5e-5
    """Largest relative error of an output or gradient that counts as right."""
    row_dim: int = -2
    """Dimension of the rows in every output."""
    package: str | None = None
    """What to install for it; None = nothing more."""
    note: str = ""
    """What a reader has to know to compare fairly."""
    left_out: str | None = None
    """Why it is in the case but not run; None = it is run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """One contender's figure over another's."""

    of: str
    """Contender above the line."""
    to: str
    """Contender below the line."""
    bar: float | None = None
    """What the ratio has to reach."""
    aim: float | None = None
    """What would be better still."""
    paper: float | None = None
    """What a publication states for it, on other hardware."""
    higher_is_better: bool = False
    """Whether the bar is reached from above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One line of the benchmark: the same tensors, several contenders."""

    name: str
    """Unique; ends in the size."""
    group: str
    """The question it belongs to; the sizes of a group make one curve."""
    size: int
    """Keys, positions or states."""
    tensors: Callable[[int], dict[str, Tensor]]
    """Makes the tensors of a size, always the same ones."""
    contenders: tuple[Contender, ...]
    """Ours first."""
    ratios: tuple[Ratio, ...] = ()
    """What is compared."""
    mode: Mode = "forward"
    """What a call is."""
    quantity: Quantity = "seconds"
    """Seconds of a call, or peak bytes beyond the inputs in a fresh process."""
    bar_bytes: int | None = None
    """What the bytes of the first contender may be."""
    differentiated: tuple[str, ...] = ()
    """Tensors that want a gradient where the mode asks for gradients."""
    facts: Callable[[Tensors], dict[str, float]] | None = None
    """Measured properties of the tensors that the case's description rests on."""
    optional: bool = False
    """Run only where it is named: it takes long or much memory."""

    def fresh_tensors(self, size: int | None = None) -> dict[str, Tensor]:
        """The tensors of the case, or of another size, with or without gradients as it is timed."""
        made = self.tensors(self.size if size is None else size)
        if self.mode == "gradients":
            for name in self.differentiated:
                made[name].requires_grad_()
        return made

    def contender(self, name: str) -> Contender:
        """The contender of that name."""
        return next(c for c in self.contenders if c.name == name)


def run_once(operation: Operation, mode: Mode, cotangents: Outputs | None) -> Outputs:
    """One call as it is timed: its outputs, then the gradients if there are any."""
    if mode == "forward":
        with torch.no_grad():
            return operation.call()
    outputs = operation.call()
    if mode == "iteration":
        return outputs
    gradients = torch.autograd.grad(outputs, list(operation.leaves.values()), cotangents)
    return (*(o.detach() for o in outputs), *gradients)


def random_cotangents(outputs: Outputs) -> Outputs:
    """A gradient for each output, always the same one for a shape."""
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(o.shape, generator=generator, dtype=o.dtype) for o in outputs)
