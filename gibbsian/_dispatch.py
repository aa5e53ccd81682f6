"""Which implementation runs a call: by rule, and with all the reasons when one cannot."""

import importlib.util
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import Parameter

from gibbsian._errors import ArgumentError, BackendUnavailableError

Backend: TypeAlias = Literal["auto", "reference", "cpu"]
"""`reference`: plain torch, any device, any dtype. `cpu`: compiled kernels, float32 and narrower,
memory linear in the length; a second derivative is taken by the reference. `auto`: `cpu` where it
can run, else `reference`."""

_HAS_NUMBA = importlib.util.find_spec("numba") is not None
_CPU_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def runs_on_cpu_kernels(backend: Backend, *tensors: Tensor, obstacles: Sequence[str] = ()) -> bool:
    """Whether this call goes to the CPU kernels (otherwise: to the reference).

    Args:
        backend: what the caller asked for.
        tensors: the floating-point inputs.
        obstacles: further reasons of the caller's why the kernels cannot run, each a clause.

    Raises:
        ArgumentError: an unknown backend.
        BackendUnavailableError: `cpu` was asked for and cannot run.
    """
    if backend == "reference":
        return False
    if backend not in ("auto", "cpu"):
        raise ArgumentError(
            f"`backend` must be 'auto', 'reference' or 'cpu', got {backend!r}. "
            "'auto' picks the fastest that can run."
        )
    reasons = (*_obstacles(tensors), *obstacles)
    if reasons and backend == "cpu":
        raise BackendUnavailableError(
            f"`backend='cpu'` cannot run here: {'; '.join(reasons)}. "
            "Use backend='auto' to fall back by itself."
        )
    return not reasons


def is_watched(*tensors: Tensor) -> bool:
    """Whether torch has to see this call as an operator's: to differentiate or record it.

    Where it need not, what the operator is made of may be called directly. The way through torch's
    dispatcher takes 0.1 ms and more where its code has left the caches.
    """
    return is_traced(*tensors) or (
        torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    )


def is_traced(*tensors: Tensor | None) -> bool:
    """Whether only operators may touch these tensors, not code that reads their numbers.

    So it is while a graph is made (`torch.compile`, `make_fx`, `torch.jit.trace`), under any other
    dispatch mode, and for tensors of a subclass: what reads the memory of such a tensor would put
    the numbers of this call into the graph, or find none.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None  # noqa: SLF001 (no public name)
        or torch._C._len_torch_dispatch_stack() > 0  # noqa: SLF001 (the same)
        or torch._ops._len_torch_dispatch_stack_pre_dispatch() > 0  # noqa: SLF001 (the same)
        or any(type(tensor) not in (Tensor, Parameter, type(None)) for tensor in tensors)
    )


def _obstacles(tensors: tuple[Tensor, ...]) -> list[str]:
    reasons = []
    if not _HAS_NUMBA:
        reasons.append("numba is not installed (pip install 'gibbsian[cpu]')")
    devices = {tensor.device.type for tensor in tensors} - {"cpu"}
    if devices:
        reasons.append(f"a tensor is on {', '.join(sorted(devices))}")
    dtypes = {str(tensor.dtype) for tensor in tensors if tensor.dtype not in _CPU_DTYPES}
    if dtypes:
        reasons.append(f"a tensor is {', '.join(sorted(dtypes))} (the kernels compute in float32)")
    if not torch.compiler.is_compiling():  # whose own tracing looks like a transform
        if torch._C._functorch.peek_interpreter_stack() is not None:  # noqa: SLF001 (no public name)
            reasons.append("a torch.func transform is active")
        if torch.autograd.forward_ad._current_level >= 0:  # noqa: SLF001 (the same)
            reasons.append("forward-mode differentiation is active")
    return reasons
