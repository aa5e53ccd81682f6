"""Look at every attention call of a model while it computes as it always does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from gibbsian._errors import ArgumentError, UnsupportedModelError
from gibbsian.integrations.transformers.call import AttentionCall, attention_call
from gibbsian.integrations.transformers.forward import attention_forward
from gibbsian.integrations.transformers.masks import attention_mask
from gibbsian.integrations.transformers.names import IMPLEMENTATIONS
from gibbsian.integrations.transformers.support import check_supported, interface_layers

CAPTURED = "gibbsian_captured"
"""Value of `attn_implementation` of a model that is being looked at."""

Callback = Callable[[int, AttentionCall], None]
"""Called with the number of the layer (0 = first) and what it is asked to compute."""


@contextmanager
def capture(model: PreTrainedModel, callback: Callback) -> Iterator[dict[str, nn.Module]]:
    """Hand every attention call of a model to a callback, then let the model go on with it.

    The outputs stay what they were: a gibbsian attention keeps computing with it, everything else
    with torch's `scaled_dot_product_attention`, whatever implementation the model was set to
    (restored at the end). A call whose keys are hidden by padding alone comes with a mask of one
    row, a causal one without a mask. Windows, and causality together with padding, bring a boolean
    N x N mask of transformers' own; nothing else of that size is made.

    Args:
        model: a transformers model; not to be captured twice at a time.
        callback: is run without a graph, before the layer's own attention, with detached tensors.
            An exception in it ends the forward call.

    Yields:
        The model's attention layers by name, in the order of their numbers. A layer that a forward
        call leaves out (a decoder's, where the encoder runs alone) calls nobody.

    Raises:
        UnsupportedModelError: at the start, if some attention does not go through transformers'
            AttentionInterface or is more than a softmax of masked scores; in a call, if it passes
            something that changes the weights.

    Example:
        >>> from gibbsian.attention.gibbs import attention_row_statistics
        >>> def show(layer, call):
        ...     rows = attention_row_statistics(call.query, call.key, **call.arguments())
        ...     print(layer, rows.entropy.mean())
        >>> with capture(model, show):  # doctest: +SKIP
        ...     model(tokens)
    """
    layers = interface_layers(model)
    check_supported(model, layers)
    busy = [name for name, layer in layers.items() if layer in _VIEWERS]
    if busy:
        raise ArgumentError(
            f"`model` must not be captured twice at a time, got one whose {busy[0]} is. "
            "Do both in one callback."
        )
    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    own = {number: config._attn_implementation for number, config in configs.items()}  # noqa: SLF001
    viewers = [
        _Viewer(index, own.get(id(getattr(layer, "config", None))), callback)
        for index, layer in enumerate(layers.values())
    ]
    AttentionInterface.register(CAPTURED, _captured_forward)
    AttentionMaskInterface.register(CAPTURED, attention_mask)
    try:
        _VIEWERS.update(zip(layers.values(), viewers, strict=True))
        model.set_attn_implementation(CAPTURED)
        yield layers
    finally:
        # Not by `set_attn_implementation`: parts of a model may have had different ones.
        for number, config in configs.items():
            config._attn_implementation_internal = own[number]  # noqa: SLF001
        for layer in layers.values():
            _VIEWERS.pop(layer, None)


class _Viewer:
    """One layer's number, own attention and callback."""

    def __init__(self, index: int, implementation: str | None, callback: Callback) -> None:
        self.index = index
        self.implementation = implementation
        self.callback = callback


_VIEWERS: WeakKeyDictionary[nn.Module, _Viewer] = WeakKeyDictionary()
"""Of the layers of all models that are being looked at. transformers knows functions by a name for
the whole process, so the function has to find out for whom it is called."""


def _captured_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    viewer = _VIEWERS.get(module)
    if viewer is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} was not known when the capture began. Capture the model "
            "that is called, not a copy of it."
        )
    rest = {name: option for name, option in options.items() if name not in _READ}
    with torch.no_grad():
        call = attention_call(
            module,
            query.detach(),
            key.detach(),
            mask,
            scaling=options.get("scaling"),
            is_causal=options.get("is_causal"),
            sliding_window=options.get("sliding_window"),
            options=rest,
        )
        viewer.callback(viewer.index, call)
    if viewer.implementation in IMPLEMENTATIONS:
        options["implementation"] = viewer.implementation
        return attention_forward(module, query, key, value, mask, **options)
    output, weights = sdpa_attention_forward(module, query, key, value, mask, **options)
    return output, weights


_READ = frozenset({"dropout", "scaling", "is_causal", "sliding_window"})
