"""Which models' attention can be replaced or read: all of it goes through the interface."""

import inspect

from torch import nn
from transformers import PreTrainedModel

from gibbsian._errors import UnsupportedModelError


def check_supported(model: PreTrainedModel, layers: dict[str, nn.Module]) -> None:
    """Refuse a model whose attention is more than a softmax of masked scores, or its own.

    Args:
        model: a transformers model.
        layers: its `interface_layers`.

    Raises:
        UnsupportedModelError: with the class, and what to use instead.
    """
    for part in model.modules():
        if not isinstance(part, PreTrainedModel):
            continue
        if not part._can_set_attn_implementation():  # noqa: SLF001  (transformers has no other way)
            raise UnsupportedModelError(
                f"{type(part).__name__} would keep its own attention whatever is set. Use a model "
                "family that goes through transformers' AttentionInterface, e.g. Llama."
            )
        # The models' own word for: no more than scores and a mask goes into the weights.
        if not part._supports_sdpa:  # noqa: SLF001
            raise UnsupportedModelError(
                f"{type(part).__name__} needs more than a mask (e.g. attention sinks, soft-capped "
                "scores), which no gibbsian attention honours. Use another model family."
            )
    name = type(model).__name__
    own = [n for n, module in model.named_modules() if _has_own_attention(module)]
    if own:
        raise UnsupportedModelError(
            f"{name} computes the attention of {own[0]} (and {len(own) - 1} more) itself, whatever "
            "`attn_implementation` says. Use another model family, e.g. BERT, GPT-2 or Llama."
        )
    if not layers:
        raise UnsupportedModelError(
            f"{name} has no attention layer that goes through transformers' AttentionInterface, so "
            "none can be replaced. Use a model family that does, e.g. BERT, GPT-2 or Llama."
        )


def interface_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that look their attention up in transformers' AttentionInterface, by name."""
    return {name: m for name, m in model.named_modules() if _uses_interface(m)}


def _uses_interface(module: nn.Module) -> bool:
    """Whether the layer looks its attention function up when it is called."""
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    return code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names


def _has_own_attention(module: nn.Module) -> bool:
    """Whether a layer of transformers called attention computes it without the interface."""
    cls = type(module)
    return (
        "Attention" in cls.__name__
        and cls.__module__.startswith("transformers.models.")
        and not isinstance(module, PreTrainedModel)
        and not any(_uses_interface(part) for part in module.modules())
    )
