"""Whether a call is being recorded, or runs on something else than plain tensors."""

import torch
from torch import Tensor
from torch.nn import Parameter


def is_traced(*tensors: Tensor | None) -> bool:
    """Whether only operators may touch these tensors, not code that reads their numbers.

    So it is while a graph is made (`torch.compile`, `make_fx`, `torch.jit.trace`), under any other
    dispatch mode, and for tensors of a subclass: what reads the memory of such a tensor would put
    the numbers of this call into the graph, or find none.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined]  # not in its `__all__`
        or torch._C._len_torch_dispatch_stack() > 0  # noqa: SLF001 (no public name)
        or torch._ops._len_torch_dispatch_stack_pre_dispatch() > 0  # noqa: SLF001 (the same)
        or any(type(tensor) not in (Tensor, Parameter, type(None)) for tensor in tensors)
    )
