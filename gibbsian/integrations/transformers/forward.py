"""The function that transformers calls in every attention layer."""

import copy
from functools import partial
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from gibbsian._errors import CheckpointError, UnsupportedModelError
from gibbsian.attention import Attention, attention_from_config
from gibbsian.integrations.transformers.masks import as_boolean, attention_mask
from gibbsian.integrations.transformers.names import IMPLEMENTATIONS, SUBMODULE, implementation_of

try:
    from transformers.utils.output_capturing import _active_collector
except ImportError as error:
    raise ImportError(
        "gibbsian.integrations.transformers needs transformers >= 5.16, of a version that has "
        f"`transformers.utils.output_capturing._active_collector`, got {transformers.__version__}. "
        "Install `gibbsian[transformers]` anew, or an older transformers 5."
    ) from error

_WITHOUT_EFFECT = frozenset(
    {
        "deterministic",
        "ignore_index",
        "logits_to_keep",
        "num_items_in_batch",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "position_ids",
        "return_dict",
        "shift_labels",
        "use_cache",
    }
)
"""What models hand through to their attention layers that does not change what a query sees.

Positions that restart (packed sequences) are in the mask already. Everything else either has an
argument of its own in `attention_forward` or is refused: a feature that this package does not know
must not be lost in silence.
"""


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
    _refuse_unknown(module, options)
    attention = _attention_of(module, implementation)
    queries, keys = query.shape[2], key.shape[2]
    mask = as_boolean(attention_mask)
    if mask is None and sliding_window is not None and keys > sliding_window:
        raise UnsupportedModelError(
            f"`sliding_window` of {sliding_window} must be in the mask for {keys} keys, but "
            f"{type(module).__name__} got none. Call the whole model, not the layer."
        )
    if is_causal is None:
        is_causal = bool(getattr(module, "is_causal", True))
    # One query is the newest and sees all keys; a mask contains causality already.
    is_causal = is_causal and mask is None and queries > 1
    if is_causal and keys > queries:
        # Filling an empty cache of fixed size: the keys after the last query are not there yet.
        key, value = key[:, :, :queries], value[:, :, :queries]
    arguments: dict[str, Any] = {
        "mask": mask,
        "is_causal": is_causal,
        "scale": scaling,
        "dropout_p": dropout,
        "enable_gqa": key.shape[1] != query.shape[1],
    }
    if not _wants_statistics(options):
        output = attention(query, key, value, **arguments)
        return output.transpose(1, 2).contiguous(), None
    output, statistics = attention(query, key, value, return_statistics=True, **arguments)
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


def _refuse_unknown(module: nn.Module, options: dict[str, Any]) -> None:
    for name, option in options.items():
        if option is not None and option is not False and name not in _WITHOUT_EFFECT:
            raise UnsupportedModelError(
                f"`{name}` cannot be honoured by a gibbsian attention, and "
                f"{type(module).__name__} passes it. Keep this model's own attention."
            )


def _wants_statistics(options: dict[str, Any]) -> bool:
    if options.get("output_attentions"):
        return True
    # Some models (GPT-2) take the flag off before it gets here, and collect what layers return.
    collected = _active_collector.get()
    return collected is not None and any(name.endswith("attentions") for name in collected)
