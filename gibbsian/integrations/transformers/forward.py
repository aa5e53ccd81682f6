"""The function that transformers calls in every attention layer."""

import copy
from functools import partial
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from gibbsian._errors import CheckpointError, UnsupportedModelError
from gibbsian.attention import Attention, attention_from_config
from gibbsian.integrations.transformers.call import attention_call
from gibbsian.integrations.transformers.masks import attention_mask
from gibbsian.integrations.transformers.names import IMPLEMENTATIONS, SUBMODULE, implementation_of

try:
    from transformers.utils.output_capturing import _active_collector
except ImportError as error:
    raise ImportError(
        "gibbsian.integrations.transformers needs transformers >= 5.16, of a version that has "
        f"`transformers.utils.output_capturing._active_collector`, got {transformers.__version__}. "
        "Install `gibbsian[transformers]` anew, or an older transformers 5."
    ) from error


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    implementation: str,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """One layer's attention, in the calling convention of transformers' AttentionInterface.

    Args:
        module: the model's attention layer, which holds the attention as a submodule.
        query: (batch, heads, queries, head_dim).
        key: (batch, key_heads, keys, head_dim), the cache included.
        value: (batch, key_heads, keys, value_dim).
        attention_mask: from `masks.attention_mask`, or as given by the model's caller.
        implementation: the name under which the function was registered.
        dropout: probability, 0 in evaluation.
        scaling: factor of the scores; None = 1/sqrt(head_dim).
        is_causal: None = as the module says.
        sliding_window: honoured by the mask.
        **options: whatever else the model passes; what would change the result is refused.

    Returns:
        (batch, queries, heads, value_dim), and the rows' statistics (batch, heads, queries, 5) in
        the order of `AttentionStatistics.names` if the call asked for attentions, else None.

    Raises:
        UnsupportedModelError: the model asks for something that this attention cannot honour.
    """
    call = attention_call(
        module,
        query,
        key,
        attention_mask,
        scaling=scaling,
        is_causal=is_causal,
        sliding_window=sliding_window,
        options=options,
    )
    attention = _attention_of(module, implementation)
    value = value[:, :, : call.key.shape[2]]
    arguments: dict[str, Any] = call.arguments() | {"dropout_p": dropout}
    if not _wants_statistics(options):
        output = attention(call.query, call.key, value, **arguments)
        return output.transpose(1, 2).contiguous(), None
    output, statistics = attention(call.query, call.key, value, return_statistics=True, **arguments)
    return output.transpose(1, 2).contiguous(), statistics.stack()


def register() -> None:
    """Make every attention, with its mask function, known to transformers."""
    for name in IMPLEMENTATIONS:
        AttentionInterface.register(name, partial(attention_forward, implementation=name))
        AttentionMaskInterface.register(name, attention_mask)


def place(module: nn.Module, attention: Attention) -> None:
    """Give an attention layer a copy of `attention`, with parameters for its number of heads.

    Raises:
        UnsupportedModelError: the schedule has parameters a head, and the layer does not say how
            many heads it has.
    """
    attention = copy.deepcopy(attention)
    schedule = getattr(attention, "schedule", None)
    if schedule is not None and hasattr(schedule, "for_heads"):
        attention.schedule = schedule.for_heads(_num_heads(module))
    device = next((tensor.device for tensor in module.parameters()), None)
    setattr(module, SUBMODULE, attention.to(device).train(module.training))


def _num_heads(module: nn.Module) -> int:
    names = ("num_attention_heads", "num_heads", "n_heads", "n_head")
    for holder in (module, getattr(module, "config", None)):
        for name in names:
            if isinstance(heads := getattr(holder, name, None), int):
                return heads
    raise UnsupportedModelError(
        f"{type(module).__name__} must tell its number of heads as one of {', '.join(names)}, "
        "found none. Give the schedule shared parameters: `num_heads=None`."
    )


def _attention_of(module: nn.Module, implementation: str) -> Attention:
    attention = getattr(module, SUBMODULE, None)
    if not isinstance(attention, Attention):
        return _place_default(module, implementation)
    if implementation_of(attention) != implementation:
        raise UnsupportedModelError(
            f"`attn_implementation` is {implementation!r}, but the layers hold "
            f"{implementation_of(attention)!r}. Change both with `use(model, attention)`."
        )
    return attention


class _Placed(dict[str, Any]):
    """Description of a default attention that this process made; one read from a file is a dict."""


def _place_default(module: nn.Module, implementation: str) -> Attention:
    """The attention of a model that was made with `attn_implementation` alone."""
    config = getattr(module, "config", None)
    described = getattr(config, SUBMODULE, None)
    if described is None or isinstance(described, _Placed):
        attention = IMPLEMENTATIONS[implementation]()
        if config is not None:
            # As `use` does: the moments that it gathers are of use only to one who can `load`.
            setattr(config, SUBMODULE, _Placed(attention.to_config()))
    else:
        attention = attention_from_config(described)
        if implementation_of(attention) != implementation or attention.state_dict():
            raise CheckpointError(
                f"`attn_implementation` {implementation!r} cannot restore the saved attention "
                f"{described}. Load it with `gibbsian.integrations.transformers.load`."
            )
    place(module, attention)
    return _attention_of(module, implementation)


def _wants_statistics(options: dict[str, Any]) -> bool:
    if options.get("output_attentions"):
        return True
    # Some models (GPT-2) take the flag off before it gets here, and collect what layers return.
    collected = _active_collector.get()
    return collected is not None and any(name.endswith("attentions") for name in collected)
