"""Peak memory of one training step, counted tensor by tensor."""

import copy
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gibbsian.experiments.measure import Batch


class _AliveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operators make, until they are freed."""

    def __init__(self, ignored: Iterable[Tensor]) -> None:
        super().__init__()
        self._known = {tensor.untyped_storage().data_ptr() for tensor in ignored}
        self.alive: int = 0
        self.peak: int = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        if size and key not in self._known:
            self._known.add(key)
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def peak_step_memory(model: nn.Module, batch: Batch) -> int:
    """Bytes of the tensors alive at the peak of one AdamW training step of `model` on `batch`.

    Weights, buffers and the optimiser's two moments, plus what forward and backward hold at most
    at one time (activations, gradients, intermediate results). Exact, the same on every machine,
    and independent of what the process did before; scratch inside a fused operator is not seen.
    """
    # a copy: running moments, gradients and the caller's mode stay as they are
    model = copy.deepcopy(model).train()
    model.zero_grad(set_to_none=True)
    parameters = list(model.parameters())
    inputs = {key: value.to(parameters[0].device) for key, value in batch.items()}
    resting = _num_bytes(parameters) + _num_bytes(model.buffers())
    resting += 2 * _num_bytes(p for p in parameters if p.requires_grad)
    with _AliveBytes([*parameters, *model.buffers(), *inputs.values()]) as counter:
        model(**inputs).loss.backward()
    return resting + int(counter.peak)


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
