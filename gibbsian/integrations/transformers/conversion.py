"""One call that turns a model to an attention."""

from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedModel

from gibbsian._errors import ArgumentError, UnsupportedModelError
from gibbsian.attention import Attention, LLNDiag
from gibbsian.integrations.transformers.forward import place
from gibbsian.integrations.transformers.names import CUSTOM, SUBMODULE, implementation_of
from gibbsian.integrations.transformers.support import check_supported, interface_layers

Model = TypeVar("Model", bound=PreTrainedModel)


def use(model: Model, attention: Attention) -> Model:
    """Give every attention layer of a model its own copy of an attention.

    The copies are submodules: their parameters (a learnable schedule's, one set a layer, with a
    value for each head) are trained, moved and saved with the model. Call this before the
    optimiser is made. The description of the attention goes into `model.config`, so that
    `save_pretrained` writes all that `load` needs.

    Args:
        model: a transformers model; changed in place.
        attention: copied, never shared.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: the model keeps attention of its own whatever is set, or relies on
            something else than masks (sinks, soft caps), or it has cross attention, to which
            `LLNDiag` gives no meaning. What shows only in use, e.g. relative
            position biases, raises in the first forward call.

    Example:
        >>> from gibbsian.attention import AES
        >>> from gibbsian.integrations.transformers import use
        >>> model = use(model, AES())  # doctest: +SKIP
    """
    layers = interface_layers(model)
    check_supported(model, layers)
    if isinstance(attention, LLNDiag):
        _check_one_sequence(model, layers)
    for layer in layers.values():
        place(layer, attention)
    setattr(model.config, SUBMODULE, _description(attention))
    model.set_attn_implementation(implementation_of(attention))
    return model


def remove(model: Model, *, attn_implementation: str = "sdpa") -> Model:
    """Give a model back transformers' own attention: the inverse of `use`.

    The attentions, their parameters and moments, and the description in `model.config` go, so that
    the model is saved without them. `model.set_attn_implementation` alone leaves all of them there,
    and `load` would bring the attention back.

    Args:
        model: changed in place; one that has no gibbsian attention only changes implementation.
        attn_implementation: transformers' name of the attention to compute with from now on.

    Returns:
        The same model.
    """
    for module in list(model.modules()):
        if isinstance(getattr(module, SUBMODULE, None), Attention):
            delattr(module, SUBMODULE)
        config = getattr(module, "config", None)
        if hasattr(config, SUBMODULE):
            delattr(config, SUBMODULE)
    model.set_attn_implementation(attn_implementation)
    return model


def _description(attention: Attention) -> dict[str, Any]:
    try:
        return attention.to_config()
    except ArgumentError:
        # A schedule of the caller's own: `load` will ask for it.
        return {"name": attention.name, CUSTOM: True}


def attention_layers(model: PreTrainedModel) -> dict[str, Attention]:
    """The attentions that `use` put into a model, by the name of their layer, first layer first."""
    return {
        name.removesuffix(f".{SUBMODULE}"): module
        for name, module in model.named_modules()
        if isinstance(module, Attention)
    }


def _check_one_sequence(model: PreTrainedModel, layers: dict[str, nn.Module]) -> None:
    """Diagonal blocks pair query and key by position: within one sequence only."""
    for name, layer in layers.items():
        # transformers has no common mark: BART says `encoder_attn`, BERT `crossattention.self`
        named = any(mark in name.lower() for mark in ("encoder_attn", "cross"))
        if named or getattr(layer, "is_cross_attention", False):
            raise UnsupportedModelError(
                f"{type(model).__name__} has cross attention ({name}), where the diagonal blocks "
                "of LLN+Diag mean nothing. Use LLN."
            )
