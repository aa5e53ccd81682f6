"""Deleted tokens against texts that never had them."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from gibbsian._errors import ArgumentError, DataError
from gibbsian.experiments.deletion import deletion_effects, relevant_keys
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.observables import effective_correlation
from tests.tolerances import assert_same_outputs

TOKENS = 12


def llama(attention="sdpa"):
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
        attn_implementation=attention,
    )  # fmt: skip
    torch.manual_seed(1)
    return LlamaForCausalLM(config).eval()


def gpt2():
    config = GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, n_positions=20,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(1)
    return GPT2LMHeadModel(config).eval()


def losses(model, input_ids, positions):
    """Of each token given those before it."""
    with torch.no_grad():
        logits = model(input_ids=input_ids[None], position_ids=positions[None]).logits[0]
    return -logits.log_softmax(-1)[:-1].gather(-1, input_ids[1:, None])[:, 0]


@pytest.mark.parametrize("build", [llama, lambda: llama("eager"), gpt2])
def test_a_deleted_token_might_never_have_been_there(build):
    model = build()
    text = torch.randint(50, (TOKENS,), generator=torch.Generator().manual_seed(2))
    effects = deletion_effects(model, text, batch=5)
    position = torch.arange(TOKENS)
    whole = losses(model, text, position)
    for j in range(TOKENS):
        assert (effects[j, : j + 2] == 0).all()
        if j + 2 < TOKENS:
            kept = position != j
            without = losses(model, text[kept], position[kept])
            assert_same_outputs(effects[j, j + 2 :] + whole[j + 1 :], without[j:])
    assert (effects.abs() > 0.01).any()


def test_some_deletions_only():
    model = llama()
    text = torch.randint(50, (TOKENS,))
    some = torch.tensor([7, 0])
    assert torch.allclose(
        deletion_effects(model, text, deleted=some), deletion_effects(model, text)[some], atol=1e-5
    )


def test_relevant_keys_are_those_of_the_next_token():
    effects = torch.zeros(4, 4)
    effects[0, 3], effects[1, 2], effects[2, 3] = 0.5, -0.4, 0.05
    relevant = relevant_keys(effects, tolerance=0.1)
    assert relevant.nonzero().tolist() == [[1, 1], [2, 0]]
    query, key, value = torch.randn(3, 1, 2, 4, 8).unbind(0)
    found = effective_correlation(query, key, value, relevant, is_causal=True)
    assert (found.leakage[..., 0] == 1).all()
    assert (found.leakage[..., 2] < 1).all()


def test_short_texts_and_bad_arguments():
    model = llama()
    assert deletion_effects(model, torch.tensor([3])).tolist() == [[0.0]]
    text = torch.randint(50, (TOKENS,))
    with pytest.raises(ArgumentError, match="`batch` must be >= 1, got 0"):
        deletion_effects(model, text, batch=0)
    with pytest.raises(ArgumentError, match=r"`deleted` must hold positions in 0\.\.11"):
        deletion_effects(model, text, deleted=torch.tensor([12]))
    with pytest.raises(ArgumentError, match="`tolerance` must be > 0"):
        relevant_keys(torch.zeros(2, 2), tolerance=0.0)


@pytest.mark.real
@pytest.mark.slow
def test_the_words_that_tell_the_colour_are_relevant_to_it():
    try:
        folder = smollm2_folder()
    except DataError as error:
        pytest.skip(str(error))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer(
        "Mr Knightley gave Harriet a red ribbon. The ribbon that Mr Knightley gave to Harriet was "
        "red. The colour of Harriet's ribbon was red",
        return_tensors="pt",
    ).input_ids[0]
    effects = deletion_effects(model, text)[:, -1]
    words = [tokenizer.decode([token]) for token in text.tolist()]
    needed = {words[j] for j in effects.topk(5).indices.tolist()}
    assert {" red", " colour", " ribbon"} <= needed
    assert effects.abs().median() < 0.2 < effects.max()
