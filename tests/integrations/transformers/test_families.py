"""Every family computes with the attention it was given, and masks as its own attention does."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from gibbsian.attention import AES, Attention, AttentionStatistics, Entmax, Softmax
from gibbsian.integrations.transformers import attention_layers, use
from gibbsian.normalizers.schedules import Constant, LearnableRamp
from tests.integrations.transformers.families import (
    FAMILIES,
    TEXT_FAMILIES,
    batch_for,
    build,
    outputs_of,
)
from tests.tolerances import assert_same

PADDED = [("vit", "none")] + [(n, p) for n in TEXT_FAMILIES for p in ("none", "left", "right")]

EQUAL_TO_SOFTMAX = {
    "softmax": Softmax(),
    "entmax": Entmax(zeta=0.0),
    "aes": AES(schedule=Constant(zeta=0.0)),
}


def _outputs(name: str, padding: str, attention: Attention | None) -> Tensor:
    model = build(name)
    if attention is not None:
        use(model, attention)
    with torch.no_grad():
        return outputs_of(model, batch_for(model, padding))


@pytest.mark.parametrize("attention", EQUAL_TO_SOFTMAX)
@pytest.mark.parametrize(("name", "padding"), PADDED)
def test_no_sparsity_equals_the_models_own_attention(
    name: str, padding: str, attention: str
) -> None:
    own = _outputs(name, padding, None)
    assert_same(_outputs(name, padding, EQUAL_TO_SOFTMAX[attention]), own)


@pytest.mark.parametrize("name", FAMILIES)
def test_sparsity_changes_the_output_and_gradients_reach_every_weight(name: str) -> None:
    own = _outputs(name, "none", None)
    model = use(build(name), AES(schedule=LearnableRamp(low=0.2, high=0.99, zeta_max=0.9)))
    output = outputs_of(model, batch_for(model))
    assert (output - own).abs().max() > 1e-3
    output.square().mean().backward()
    without = [
        parameter_name
        for parameter_name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    # a bias of the keys shifts all scores of a row alike, and a pooler is not in the output
    known = ("k_proj.bias", "key.bias", "k_norm", "pooler", "mask_token", "token_type_embeddings")
    assert not [n for n in without if not any(part in n for part in known)]


@pytest.mark.parametrize("name", FAMILIES)
def test_output_attentions_are_statistics_of_rows(name: str) -> None:
    model = use(build(name), Entmax(zeta=0.7))
    batch = batch_for(model, "left")
    with torch.no_grad():
        plain = model(**batch.inputs)
        asked = model(**batch.inputs, output_attentions=True)
    length = batch.present.shape[1]
    assert len(asked.attentions) == 2
    for layer in asked.attentions:
        assert layer.shape == (3, 4, length, 5)
    assert_same(asked[0][batch.present], plain[0][batch.present])
    statistics = AttentionStatistics.unstack(asked.attentions[0])
    present = batch.present[:, None].expand(-1, 4, -1)
    assert (statistics.zeta == torch.tensor(0.7)).all()
    assert (statistics.num_keys[present] >= 1).all()
    assert (statistics.num_keys[present] <= length).all()
    assert (statistics.support_size <= statistics.num_keys).all()
    assert not plain.attentions


def test_statistics_know_padding_and_causality() -> None:
    model = use(build("llama"), Softmax())
    batch = batch_for(model, "left")
    with torch.no_grad():
        attentions = model(**batch.inputs, output_attentions=True).attentions
    keys = AttentionStatistics.unstack(attentions[1]).num_keys
    expected = batch.inputs["attention_mask"].cumsum(dim=-1)
    expected = (expected * batch.inputs["attention_mask"])[:, None].expand(-1, 4, -1)
    assert torch.equal(keys[expected > 0], expected[expected > 0].float())


def _layer_of_each_copy(model: PreTrainedModel) -> list[int]:
    return [id(attention) for attention in attention_layers(model).values()]


def test_each_layer_has_a_copy_of_its_own_with_parameters_for_its_heads() -> None:
    given = AES(schedule=LearnableRamp())
    model = use(build("llama"), given)
    layers = attention_layers(model)
    assert list(layers) == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    assert len({id(given), *_layer_of_each_copy(model)}) == 3
    for parameter in (p for a in layers.values() for p in a.parameters()):
        assert parameter.shape == (4,)
    assert {p.shape for p in given.parameters()} != {(4,)}
    names = [name for name, _ in model.named_parameters() if "gibbsian_attention" in name]
    assert len(names) == 2 * len(list(given.parameters()))


def test_a_second_use_replaces_the_first() -> None:
    model = use(build("gpt2"), AES(schedule=LearnableRamp()))
    use(model, Softmax())
    assert {type(attention) for attention in attention_layers(model).values()} == {Softmax}
    assert model.config.gibbsian_attention == {"name": "softmax"}
    assert_same(outputs_of(model, batch_for(model)), outputs_of(build("gpt2"), batch_for(model)))
