"""Peak memory of one training step, counted tensor by tensor."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

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


def peak_step_memory(model: PreTrainedModel, batch: Batch) -> int:
    """Bytes of the tensors alive at the peak of one AdamW training step of `model` on `batch`.

    Weights, buffers and the optimiser's two moments, plus what forward and backward hold at most
    at one time (activations, gradients, intermediate results). Exact, the same on every machine,
    and independent of what the process did before; scratch inside a fused operator is not seen.
    Gradients are cleared; weights are not changed, buffers are put back.
    """
    inputs = {key: value.to(model.device) for key, value in batch.items()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    parameters = list(model.parameters())
    training = model.training
    model.train()
    model.zero_grad(set_to_none=True)
    with _AliveBytes([*parameters, *model.buffers(), *inputs.values()]) as counter:
        model(**inputs).loss.backward()
    model.zero_grad(set_to_none=True)
    model.train(training)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    moments = 2 * _num_bytes(p for p in parameters if p.requires_grad)
    resting = _num_bytes(parameters) + _num_bytes(buffers.values()) + moments
    return resting + int(counter.peak)


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
