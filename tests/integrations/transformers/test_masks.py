"""Whatever decides what a query may see is honoured or refused, never lost."""

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, PreTrainedModel
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    bidirectional_mask_function,
    causal_mask_function,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gibbsian._errors import UnsupportedModelError
from gibbsian.attention import AES, AttentionStatistics, Softmax
from gibbsian.integrations.transformers import IMPLEMENTATIONS, use
from gibbsian.integrations.transformers.masks import attention_mask
from gibbsian.normalizers.schedules import Constant
from tests.integrations.transformers.families import (
    LENGTH,
    WINDOW,
    WINDOWED,
    batch_for,
    build,
    llama,
    outputs_of,
)
from tests.tolerances import assert_same


def sparse(name: str) -> PreTrainedModel:
    """A family with an attention that differs from its own."""
    return use(build(name), AES(schedule=Constant(zeta=0.6)))


def test_every_attention_comes_with_a_mask_function() -> None:
    for name in IMPLEMENTATIONS:
        assert name in ALL_ATTENTION_FUNCTIONS
        assert name in ALL_MASK_ATTENTION_FUNCTIONS


def test_names_mean_nothing_else_to_transformers() -> None:
    for name in IMPLEMENTATIONS:
        assert name.startswith("gibbsian_")
        assert not any(part in name for part in ("/", "flash", "sdpa", "flex_attention", "|"))


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "phi"])
def test_the_future_is_not_seen(name: str) -> None:
    model = sparse(name)
    tokens = batch_for(model).inputs["input_ids"]
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 7) % 50 + 3
    with torch.no_grad():
        assert torch.equal(model(tokens).logits[:, :5], model(changed).logits[:, :5])


@pytest.mark.parametrize(
    ("name", "padding"),
    [(n, p) for n in ("bert", "modernbert") for p in ("left", "right")]
    # causality alone hides what is on the right
    + [(n, "left") for n in ("gpt2", "llama", "gemma3")],
)
def test_padding_is_not_seen(name: str, padding: str) -> None:
    model = sparse(name)
    batch = batch_for(model, padding)
    mask = batch.inputs["attention_mask"]
    with torch.no_grad():
        before = outputs_of(model, batch)
        batch.inputs["input_ids"][mask == 0] = 17
        assert_same(outputs_of(model, batch), before)
        mask.fill_(1)
        assert (outputs_of(model, batch) - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", WINDOWED)
def test_sliding_windows_are_honoured(name: str) -> None:
    model = sparse(name)
    with torch.no_grad():
        attentions = model(**batch_for(model).inputs, output_attentions=True).attentions
    keys = [AttentionStatistics.unstack(layer).num_keys.max().item() for layer in attentions]
    assert min(keys) == (WINDOW if name != "modernbert" else 2 * (WINDOW // 2) + 1)
    if name != "mistral":
        assert max(keys) == LENGTH, "the other layer sees everything"


def test_a_window_that_is_not_in_the_mask_is_refused() -> None:
    model = sparse("mistral")
    layer = model.model.layers[0].self_attn
    hidden = torch.randn(1, LENGTH, 32)
    rotary = model.model.rotary_emb(hidden, torch.arange(LENGTH)[None])
    with pytest.raises(UnsupportedModelError, match="sliding_window"):
        layer(hidden, rotary, attention_mask=None)


def test_packed_sequences_do_not_see_each_other() -> None:
    model = sparse("llama")
    first, second = torch.randint(3, 50, (1, 4)), torch.randint(3, 50, (1, 5))
    with torch.no_grad():
        packed = model(
            torch.cat([first, second], dim=1),
            position_ids=torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]]),
            use_cache=False,
        ).logits
        alone = torch.cat([model(first).logits, model(second).logits], dim=1)
    assert_same(packed, alone)


def test_sequence_lengths_of_flash_kernels_are_refused() -> None:
    lengths = torch.tensor([0, 4, 9], dtype=torch.int32)
    with pytest.raises(UnsupportedModelError, match="cu_seq_lens_q"):
        sparse("llama")(torch.randint(3, 50, (1, 9)), cu_seq_lens_q=lengths, cu_seq_lens_k=lengths)


def _causal(dtype: torch.dtype) -> torch.Tensor:
    seen = torch.ones(3, 1, LENGTH, LENGTH, dtype=torch.bool).tril().tril(2)
    seen[:, :, 4:, 2] = False
    if dtype == torch.bool:
        return seen
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def test_masks_of_the_callers_own() -> None:
    own, model = build("llama"), use(build("llama"), Softmax())
    tokens = batch_for(model).inputs["input_ids"]
    with torch.no_grad():
        expected = own(tokens, attention_mask=_causal(torch.bool)).logits
        for dtype in (torch.bool, torch.float32):
            assert_same(model(tokens, attention_mask=_causal(dtype)).logits, expected)


def test_biases_in_a_mask_are_refused() -> None:
    model = sparse("llama")
    mask = torch.zeros(3, 1, LENGTH, LENGTH)
    mask[..., 3] = -0.5
    with pytest.raises(UnsupportedModelError, match="`attention_mask`"):
        model(batch_for(model).inputs["input_ids"], attention_mask=mask)


def test_a_large_bias_that_stands_for_a_mask_is_refused_with_the_way_out() -> None:
    model = sparse("llama")
    mask = torch.zeros(3, 1, LENGTH, LENGTH)
    mask[..., 3] = -1e9
    with pytest.raises(UnsupportedModelError, match=r"got -1e\+09\. To hide keys.*boolean.*-inf"):
        model(batch_for(model).inputs["input_ids"], attention_mask=mask)


def test_causality_can_be_switched_off_by_the_call() -> None:
    own, model = build("llama"), use(build("llama"), Softmax())
    inputs = {"input_ids": batch_for(model).inputs["input_ids"], "use_cache": False}
    with torch.no_grad():
        two_ways = own(**inputs, is_causal=False).logits
        assert_same(model(**inputs, is_causal=False).logits, two_ways)
        assert (model(**inputs).logits - two_ways).abs().max() > 1e-3


def test_cross_attention_masks_the_other_sequence() -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        initializer_range=0.3,
        is_decoder=True,
        add_cross_attention=True,
    )
    model = BertLMHeadModel(config).eval()
    memory = torch.randn(2, 6, 32)
    seen = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    inputs = {
        "input_ids": torch.randint(3, 50, (2, 4)),
        "encoder_hidden_states": memory,
        "encoder_attention_mask": seen,
    }
    with torch.no_grad():
        expected = model(**inputs).logits
        use(model, Softmax())
        asked = model(**inputs, output_attentions=True)
    assert_same(asked.logits, expected)
    keys = AttentionStatistics.unstack(asked.cross_attentions[0]).num_keys
    assert keys[0].unique().tolist() == [4]
    assert keys[1].unique().tolist() == [6]


@pytest.mark.parametrize("skip", [True, False])
def test_padding_alone_costs_no_quadratic_mask(skip: bool) -> None:
    padding = torch.ones(2, 7, dtype=torch.bool)
    padding[0, 5:] = False
    options = {
        "batch_size": 2,
        "q_length": 7,
        "kv_length": 7,
        "attention_mask": padding,
        "allow_is_causal_skip": False,
        "allow_is_bidirectional_skip": skip,
    }
    mask = attention_mask(mask_function=bidirectional_mask_function, **options)
    assert mask is not None
    # a model that must not skip the mask goes on to combine it, and gets its full size
    assert mask.shape == (2, 1, 1 if skip else 7, 7)
    assert torch.equal(mask.expand(2, 1, 7, 7)[:, 0], padding[:, None].expand(2, 7, 7))
    causal = attention_mask(mask_function=causal_mask_function, **options)
    assert causal is not None
    assert torch.equal(causal, mask.expand(2, 1, 7, 7).tril())


def test_no_padding_costs_no_mask() -> None:
    for function, skip in (
        (bidirectional_mask_function, "allow_is_bidirectional_skip"),
        (causal_mask_function, "allow_is_causal_skip"),
    ):
        options = {"allow_is_causal_skip": False, skip: True}
        mask = attention_mask(
            batch_size=2,
            q_length=7,
            kv_length=7,
            attention_mask=torch.ones(2, 7, dtype=torch.bool),
            mask_function=function,
            **options,
        )
        assert mask is None


def test_a_layer_without_attention_of_its_own_takes_the_default() -> None:
    model = llama(attn_implementation="gibbsian_aes").eval()
    batch = batch_for(model)
    named = llama().eval()
    named.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert_same(outputs_of(model, batch), outputs_of(use(named, AES()), batch))
