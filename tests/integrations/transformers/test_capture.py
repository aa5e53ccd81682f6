"""A model that is looked at computes what it always does, and shows all of its attention."""

import sys
from typing import Any

import pytest
import torch
from transformers import (
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedModel,
    T5Config,
    T5Model,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from gibbsian._errors import ArgumentError, UnsupportedModelError
from gibbsian.attention import AES, LLN, Attention, softmax_attention
from gibbsian.integrations.transformers import AttentionCall, capture, use
from tests.integrations.transformers.families import (
    FAMILIES,
    LENGTH,
    VOCABULARY,
    batch_for,
    build,
)
from tests.tolerances import assert_same


class Seen:
    """Callback that keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, AttentionCall]] = []

    def __call__(self, layer: int, call: AttentionCall) -> None:
        self.calls.append((layer, call))


def _output(model: PreTrainedModel) -> torch.Tensor:
    batch = batch_for(model)
    with torch.no_grad():
        return model(**batch.inputs)[0]


@pytest.mark.parametrize("name", [*FAMILIES, "distilbert"])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_outputs_do_not_change_and_every_layer_is_seen(name: str, implementation: str) -> None:
    if name == "distilbert":
        config = DistilBertConfig(vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4)
        model: PreTrainedModel = DistilBertModel(config).eval()
    else:
        model = build(name)
    model.set_attn_implementation(implementation)
    before, seen = _output(model), Seen()
    with capture(model, seen) as layers:
        captured = _output(model)
    assert_same(captured, before)
    assert model.config._attn_implementation == implementation
    assert [layer for layer, _ in seen.calls] == list(range(len(layers))) == [0, 1]
    _output(model)
    assert len(seen.calls) == 2


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("padding", ["none", "right"])
def test_the_call_says_all_that_the_weights_depend_on(
    name: str, padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = build(name), Seen()
    batch = batch_for(model, padding)
    mixed: list[tuple[torch.Tensor, torch.Tensor]] = []

    def recording(layer: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> Any:
        output, weights = sdpa_attention_forward(layer, query, key, value, mask, **options)
        mixed.append((value, output))
        return output, weights

    module = sys.modules["gibbsian.integrations.transformers.capture"]
    monkeypatch.setattr(module, "sdpa_attention_forward", recording)
    with torch.no_grad(), capture(model, seen) as layers:
        model(**batch.inputs)
    for (_, call), layer, (value, output) in zip(seen.calls, layers.values(), mixed, strict=True):
        assert call.module is layer
        again = softmax_attention(call.query, call.key, value, **call.arguments())
        assert_same(again.transpose(1, 2)[batch.present], output[batch.present])


@pytest.mark.parametrize("attention", [AES(), LLN()], ids=["aes", "lln"])
def test_a_gibbsian_attention_is_looked_at_and_stays(attention: Attention) -> None:
    model = use(build("llama"), attention)
    before, seen = _output(model), Seen()
    with capture(model, seen):
        captured = _output(model)
    assert_same(captured, before)
    assert len(seen.calls) == 2
    assert model.config._attn_implementation == f"gibbsian_{attention.name}"


def test_padding_alone_costs_a_row_and_causality_nothing() -> None:
    for name, mask_shape in (("bert", (3, 1, 1, LENGTH)), ("llama", None)):
        model, seen = build(name), Seen()
        with torch.no_grad(), capture(model, seen):
            model(**batch_for(model, "right" if mask_shape else "none").inputs)
        for _, call in seen.calls:
            assert (None if call.mask is None else tuple(call.mask.shape)) == mask_shape
            assert call.is_causal is (name == "llama")


def test_an_exception_in_the_callback_leaves_the_model_as_it_was() -> None:
    model = build("llama")
    before = _output(model)

    def fail(layer: int, call: AttentionCall) -> None:
        raise RuntimeError(f"layer {layer} of {call.query.shape}")

    with pytest.raises(RuntimeError, match="layer 0"), capture(model, fail):
        _output(model)
    assert model.config._attn_implementation == "sdpa"
    assert_same(_output(model), before)
    seen = Seen()
    with capture(model, seen):
        _output(model)
    assert len(seen.calls) == 2


def test_gradients_flow_and_the_callback_gets_none() -> None:
    model, seen = build("llama").train(), Seen()
    inputs = batch_for(model).inputs
    loss = model(**inputs, labels=inputs["input_ids"]).loss
    loss.backward()
    before = model.model.layers[0].self_attn.q_proj.weight.grad.clone()
    model.zero_grad()
    with capture(model, seen):
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert_same(model.model.layers[0].self_attn.q_proj.weight.grad, before)
    assert not any(call.query.requires_grad or call.key.requires_grad for _, call in seen.calls)


def test_two_models_at_a_time_and_one_twice() -> None:
    first, second = build("llama"), build("bert")
    seen_first, seen_second = Seen(), Seen()
    with capture(first, seen_first), capture(second, seen_second):
        _output(first)
        with (
            pytest.raises(ArgumentError, match="`model` must not be captured twice"),
            capture(first, Seen()),
        ):
            pass
        _output(first)
    assert (len(seen_first.calls), len(seen_second.calls)) == (4, 0)
    with capture(first, Seen()):
        pass


def test_models_that_compute_attention_themselves() -> None:
    config = DebertaV2Config(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4
    )
    with (
        pytest.raises(UnsupportedModelError, match="DebertaV2Model would keep its own"),
        capture(DebertaV2Model(config), Seen()),
    ):
        pass


def test_biases_that_no_statistic_would_see() -> None:
    config = T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    model, tokens = T5Model(config), torch.randint(3, VOCABULARY, (1, 5))
    with (
        pytest.raises(UnsupportedModelError, match="`position_bias`"),
        capture(model, Seen()),
    ):
        model(input_ids=tokens, decoder_input_ids=tokens)
