"""Linear log-normal attention in models: causal, padded, decoded, saved."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    PreTrainedModel,
    StaticCache,
)

from gibbsian._errors import CheckpointError, GibbsianError, UnsupportedModelError
from gibbsian.attention import LLN, Attention, LLNDiag
from gibbsian.integrations.transformers import attention_layers, load, use
from tests.integrations.transformers.families import VOCABULARY, batch_for, build, outputs_of
from tests.tolerances import assert_same, assert_same_outputs

ATTENTIONS: dict[str, Attention] = {"lln": LLN(), "lln-diag": LLNDiag(block_size=4)}
FULL = ("bert", "roberta", "vit", "gpt2", "llama", "qwen2", "qwen3", "gemma", "phi")
DECODERS = FULL[3:]


def trained(name: str, attention: str) -> PreTrainedModel:
    """A model whose moments have seen a batch, in evaluation mode."""
    model = use(build(name), ATTENTIONS[attention]).train()
    with torch.no_grad():
        for seed in (1, 2):
            torch.manual_seed(seed)
            batch = batch_for(model)
            if name == "vit":
                batch.inputs["pixel_values"].add_(torch.randn(3, 3, 12, 12))
            else:
                batch.inputs["input_ids"].random_(3, VOCABULARY)
            model(**batch.inputs)
    return model.eval()


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", FULL)
def test_every_family_runs_and_learns(name: str, attention: str) -> None:
    model = trained(name, attention)
    batch = batch_for(model)
    output = outputs_of(model, batch)
    assert (output - outputs_of(build(name), batch)).abs().max() > 1e-3
    output.square().mean().backward()
    queries = [p for n, p in model.named_parameters() if n.endswith("weight") and p.grad is None]
    assert len(queries) <= 2, "only a pooler is not in the output"


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(
    ("name", "padding"), [("bert", "left"), ("bert", "right"), ("gpt2", "left"), ("llama", "left")]
)
def test_padding_is_not_seen(name: str, padding: str, attention: str) -> None:
    model = trained(name, attention)
    batch = batch_for(model, padding)
    with torch.no_grad():
        before = outputs_of(model, batch)
        batch.inputs["input_ids"][batch.inputs["attention_mask"] == 0] = 17
        assert_same(outputs_of(model, batch), before)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", DECODERS)
def test_the_future_is_not_seen(name: str, attention: str) -> None:
    model = trained(name, attention)
    tokens = batch_for(model).inputs["input_ids"]
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 7) % 50 + 3
    for training in (False, True):
        model.train(training)
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        with torch.no_grad():
            state = {k: v.clone() for k, v in model.state_dict().items()}
            first = model(tokens).logits[:, :5]
            model.load_state_dict(state)
            second = model(changed).logits[:, :5]
            model.load_state_dict(state)
        assert_same(first, second)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("name", DECODERS)
def test_decoding_with_a_cache_equals_recomputation(name: str, attention: str) -> None:
    model = trained(name, attention)
    options = {
        "max_new_tokens": 6,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    inputs = batch_for(model, "left").inputs
    cached = model.generate(**inputs, **options)
    recomputed = model.generate(**inputs, **options, use_cache=False)
    assert torch.equal(cached.sequences, recomputed.sequences)
    assert_same_outputs(torch.stack(cached.logits), torch.stack(recomputed.logits))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_static_cache_equals_recomputation(name: str, padding: str, attention: str) -> None:
    model = trained(name, attention)
    options = {
        "max_new_tokens": 6,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    inputs = batch_for(model, padding).inputs
    static = model.generate(
        **inputs, **options, cache_implementation="static", disable_compile=True
    )
    recomputed = model.generate(**inputs, **options, use_cache=False)
    assert torch.equal(static.sequences, recomputed.sequences)
    assert_same_outputs(torch.stack(static.logits), torch.stack(recomputed.logits))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("padding", ["none", "left"])
def test_a_prompt_in_pieces_fills_a_static_cache(padding: str, attention: str) -> None:
    model = trained("llama", attention)
    batch = batch_for(model, padding)
    tokens, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    cache = StaticCache(config=model.config, max_cache_len=20)
    with torch.no_grad():
        whole = model(tokens, attention_mask=mask, use_cache=False).logits
        pieces = [
            model(tokens[:, a:b], attention_mask=mask[:, :b], past_key_values=cache).logits
            for a, b in ((0, 4), (4, 8), (8, 9))
        ]
    present = batch.present
    assert_same_outputs(torch.cat(pieces, dim=1)[present], whole[present])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_prompt_in_pieces_equals_the_whole(attention: str) -> None:
    model = trained("llama", attention)
    tokens = batch_for(model).inputs["input_ids"]
    with torch.no_grad():
        whole = model(tokens).logits
        first = model(tokens[:, :4], use_cache=True)
        second = model(tokens[:, 4:], past_key_values=first.past_key_values)
    assert_same_outputs(torch.cat([first.logits, second.logits], dim=1), whole)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_decoding_leaves_the_moments_alone(attention: str) -> None:
    model = trained("llama", attention)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.generate(**batch_for(model).inputs, max_new_tokens=4)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in before.items())


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_moments_are_saved_with_the_model(attention: str, tmp_path: Path) -> None:
    model = trained("llama", attention)
    model.save_pretrained(tmp_path)
    back = load(AutoModelForCausalLM, tmp_path)
    batch = batch_for(model)
    with torch.no_grad():
        assert torch.equal(outputs_of(back, batch), outputs_of(model, batch))
    moments = [a.state_dict() for a in attention_layers(back).values()]
    assert len(moments[0]) >= 1


@pytest.mark.parametrize("name", ["gibbsian_lln", "gibbsian_lln_diag"])
def test_moments_of_a_model_made_by_name_are_saved(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = build("llama").config
    model = AutoModelForCausalLM.from_config(config, attn_implementation=name).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = batch_for(model)
    for _ in range(3):
        optimizer.zero_grad()
        outputs_of(model, batch).square().mean().backward()
        optimizer.step()
    model.eval().save_pretrained(tmp_path)
    back = load(AutoModelForCausalLM, tmp_path)
    with torch.no_grad():
        assert torch.equal(outputs_of(back, batch), outputs_of(model, batch))
    # by name alone the moments would be lost, so that is refused
    named = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation=name)
    with pytest.raises(CheckpointError, match="load"):
        named(**batch.inputs)
    # while a new model of the same configuration has nothing to restore
    fresh = AutoModelForCausalLM.from_config(model.config, attn_implementation=name)
    fresh(**batch.inputs)


@pytest.mark.parametrize("name", ["mistral", "gemma3", "modernbert"])
def test_sliding_windows_are_refused(name: str) -> None:
    model = use(build(name), LLN())
    with pytest.raises(GibbsianError, match="`mask`"):
        model(**batch_for(model).inputs)


def with_cross_attention(name: str) -> PreTrainedModel:
    if name == "bert":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        cross = {"is_decoder": True, "add_cross_attention": True}
        return BertLMHeadModel(
            BertConfig(vocab_size=VOCABULARY, intermediate_size=16, **sizes, **cross)
        )
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    return BartForConditionalGeneration(
        BartConfig(vocab_size=VOCABULARY, **layers, **heads, **widths)
    )


@pytest.mark.parametrize("name", ["bart", "bert"])
def test_diagonal_blocks_between_two_sequences_are_refused(name: str) -> None:
    model = with_cross_attention(name)
    use(model, LLN())
    with pytest.raises(UnsupportedModelError, match=r"cross attention.*Use LLN"):
        use(model, LLNDiag())


def test_packed_sequences_are_refused() -> None:
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    with pytest.raises(GibbsianError, match="`mask`"):
        use(build("llama"), LLN())(
            torch.randint(3, 50, (1, 9)), position_ids=positions, use_cache=False
        )


def test_statistics_have_one_number_a_row() -> None:
    model = trained("llama", "lln")
    with torch.no_grad():
        attentions = model(**batch_for(model).inputs, output_attentions=True).attentions
    assert attentions[0].shape == (3, 4, 9, 5)
    assert torch.equal(attentions[0][0, 0, :, -1], torch.arange(1.0, 10.0))


def test_a_name_is_enough() -> None:
    model = build("llama")
    model.set_attn_implementation("gibbsian_lln_diag")
    model(**batch_for(model).inputs)
    assert {type(attention) for attention in attention_layers(model).values()} == {LLNDiag}
