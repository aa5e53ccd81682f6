"""Attention observed while a model is trained, in a plain loop."""

import math
import warnings
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    PreTrainedModel,
    T5Config,
    T5Model,
)

from gibbsian._errors import ArgumentError, UnsupportedModelError
from gibbsian.attention import AES, softmax_attention
from gibbsian.attention.inputs import causal_mask
from gibbsian.integrations.transformers import AttentionCall, attention_observer, observer, use
from gibbsian.integrations.transformers.collapse import CollapseWatch
from gibbsian.observables.spectral import dense_spectral_gaps
from tests.integrations.transformers.families import FAMILIES, VOCABULARY, batch_for, build
from tests.oracles import gibbs
from tests.tolerances import assert_same

# The new name is not in the oldest transformers that we support.
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")


def _step(model: PreTrainedModel) -> torch.Tensor:
    output = model(**batch_for(model).inputs)[0]
    output.float().square().mean().backward()
    return output


def _names(layers: int) -> set[str]:
    return {f"attention/layer_{i}/{name}" for i in range(layers) for name in observer.QUANTITIES}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("implementation", ["sdpa", "eager", "gibbsian_aes"])
def test_any_model_and_implementation(name: str, implementation: str) -> None:
    model = build(name).train()
    if implementation == "gibbsian_aes":
        use(model, AES())
    else:
        model.set_attn_implementation(implementation)
    with attention_observer(model) as watched:
        _step(model)
        values = watched.step()
        assert model.config._attn_implementation == implementation
    assert values is not None
    assert set(values) == _names(2)
    assert all(math.isfinite(value) for value in values.values())
    for layer in range(2):
        assert 0 < values[f"attention/layer_{layer}/normalized_entropy"] < 1
        assert 0 < values[f"attention/layer_{layer}/gap"] <= 1


def _call(*, is_causal: bool, padded: int, length: int = 9) -> AttentionCall:
    query, key = torch.randn(2, 3, 4, length, 8) * 1.5
    mask = None
    if padded:
        mask = torch.ones(3, 1, 1, length, dtype=torch.bool)
        mask[0, ..., length - padded :] = False
        if is_causal:
            mask = mask & causal_mask(length, length, mask.device)
    return AttentionCall(
        module=torch.nn.Identity(), query=query, key=key, mask=mask,
        is_causal=is_causal and mask is None, scale=None,
    )  # fmt: skip


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("padded", [0, 3])
@pytest.mark.parametrize("samples", [1, 2])
def test_the_numbers(is_causal: bool, padded: int, samples: int) -> None:
    call = _call(is_causal=is_causal, padded=padded)
    found = observer.observe(call, samples=samples, gap=True).tolist()
    numbers: dict[str, list[float]] = {"entropy": [], "normalized_entropy": [], "varentropy": []}
    for sample in range(samples):
        length = 9 - padded * (sample == 0)
        scores = call.query[sample] @ call.key[sample].mT / 8**0.5
        for head in range(4):
            for i in range(length):
                seen = scores[head, i, : i + 1 if is_causal else length]
                if len(seen) > 1:
                    row = gibbs.statistics(seen.numpy())
                    for name, column in numbers.items():
                        column.append(row[name])
    expected = [sum(column) / len(column) for column in numbers.values()]
    torch.testing.assert_close(torch.tensor(found[:3]), torch.tensor(expected))
    length = 9 - padded
    scores = (call.query[:1] @ call.key[:1].mT / 8**0.5)[..., :length, :length].double()
    if is_causal:
        scores = scores.masked_fill(~causal_mask(length, length, scores.device), -torch.inf)
    eigenvalue, _ = dense_spectral_gaps(scores.softmax(dim=-1))
    # estimated from few products
    assert abs(found[4] - eigenvalue.gap.mean().item()) < 10 * observer._GAP_TOLERANCE


def test_one_step_in_several_is_observed() -> None:
    model = build("gpt2").train()
    with attention_observer(model, every=3) as watched:
        seen = []
        for _ in range(7):
            _step(model)
            seen.append(watched.step() is not None)
    assert seen == [True, False, False, True, False, False, True]
    assert watched.steps == 7


def test_only_the_first_call_of_a_step_is_observed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("gpt2").train()
    calls = []
    real = observer.observe

    def counted(call: AttentionCall, **options: Any) -> torch.Tensor:
        calls.append(call)
        return real(call, **options)

    monkeypatch.setattr(observer, "observe", counted)
    with attention_observer(model) as watched:
        _step(model)
        _step(model)
        watched.step()
    assert len(calls) == 2


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_the_other_mode_is_not_observed(mode: Any) -> None:
    model = build("gpt2").train(mode != "training")
    with attention_observer(model, mode=mode) as watched:
        _step(model)
        assert watched.step() is None
        model.train(mode == "training")
        _step(model)
        assert watched.step() is not None


def test_training_is_what_it_was() -> None:
    losses = []
    for watched in (False, True):
        torch.manual_seed(1)
        model = build("gpt2").train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        own = []
        with attention_observer(model, every=2) as attention:
            if not watched:
                attention.close()
            for _ in range(4):
                own.append(_step(model).detach())
                optimizer.step()
                optimizer.zero_grad()
                attention.step()
        losses.append(own)
    for before, after in zip(*losses, strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool) -> None:
    model = build("llama").train()
    _step(model)
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    # the observed step computes with SDPA, whose saved tensors are others
    model.set_attn_implementation("eager")
    with attention_observer(model) as watched:
        _step(model)
        values = watched.step()
        assert model.config._attn_implementation == "eager"
    assert values is not None
    assert set(values) == _names(2)
    for name, parameter in model.named_parameters():
        assert_same(parameter.grad, expected[name])


@pytest.mark.parametrize("where", ["forward", "backward", "loop"])
def test_an_exception_leaves_the_model_as_it_was(where: str) -> None:
    model = build("gpt2").train()
    hooks = len(model._forward_hooks), len(model._forward_pre_hooks)
    mlp = model.transformer.h[1].mlp
    if where == "forward":
        mlp.register_forward_pre_hook(lambda *_: 1 / 0)
    if where == "backward":
        mlp.register_full_backward_hook(lambda *_: 1 / 0)

    def watched_step() -> None:
        with attention_observer(model):
            try:
                _step(model)
            finally:
                assert model.config._attn_implementation == "sdpa"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        watched_step()
    assert (len(model._forward_hooks), len(model._forward_pre_hooks)) == hooks


def test_a_failing_observation_does_not_end_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("no memory")

    monkeypatch.setattr(observer, "observe", broken)
    model = build("gpt2").train()
    with attention_observer(model) as watched:
        with pytest.warns(UserWarning, match=r"layer 0 could not be observed.*no memory"):
            _step(model)
        assert watched.step() is None


def test_attention_across_lengths_has_no_gap() -> None:
    config = BartConfig(
        vocab_size=VOCABULARY, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_ffn_dim=48, max_position_embeddings=16,
    )  # fmt: skip
    model = BartModel(config).train()
    with attention_observer(model) as watched:
        model(input_ids=torch.arange(3, 12)[None], decoder_input_ids=torch.arange(3, 9)[None])
        values = watched.step()
    # encoder, decoder, and the decoder's look at the encoder
    without = {name for name in _names(3) if name.endswith("gap")} - set(values or {})
    assert len(set(values or {})) == len(_names(3)) - 1
    assert len(without) == 1


def test_what_is_more_than_a_mask_is_refused_and_leaves_the_model() -> None:
    config = T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    model = T5Model(config).train()
    own = model.config._attn_implementation
    with attention_observer(model):
        with pytest.raises(UnsupportedModelError):
            model(input_ids=torch.arange(3, 12)[None], decoder_input_ids=torch.arange(3, 9)[None])
        assert model.config._attn_implementation == own


def test_without_the_gap() -> None:
    model = build("bert").train()
    with attention_observer(model, gap=False) as watched:
        _step(model)
        values = watched.step()
    assert set(values or {}) == {name for name in _names(2) if not name.endswith("gap")}


def test_half_precision() -> None:
    model = build("bert").train().bfloat16()
    with attention_observer(model) as watched:
        _step(model)
        values = watched.step()
    assert set(values or {}) == _names(2)


def test_collapse_warns_once() -> None:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0,
    )  # fmt: skip
    model = BertModel(config).train()
    collapsed = model.encoder.layer[1].attention.self
    with torch.no_grad():
        collapsed.query.weight.copy_(100 * torch.eye(32))
        collapsed.key.weight.copy_(100 * torch.eye(32))
    with attention_observer(model, every=1, collapse_patience=2) as watched:
        for number in range(4):
            model(torch.arange(8)[None])
            if number == 1:
                with pytest.warns(UserWarning, match=r"collapsed in layer 1 \(encoder.*\)"):
                    watched.step()
            else:
                watched.step()  # warnings are errors


def test_collapse_is_several_observations_in_a_row() -> None:
    watch = CollapseWatch(threshold=0.1, patience=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for entropy in (0.05, 0.2, 0.05, 0.1):
            watch.update({"a": entropy, "b": 0.5}, step=0)
    watch.update({"a": 0.05}, step=1)
    with pytest.warns(UserWarning, match="collapsed in a"):
        watch.update({"a": 0.05}, step=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "`every` must be >= 1"),
        ({"samples": 0}, "`samples` must be >= 1"),
        ({"collapse_threshold": 1.5}, "`collapse_threshold` must lie"),
        ({"collapse_patience": 0}, "`collapse_patience` must be >= 1"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message), attention_observer(build("gpt2"), **options):
        pass


def test_statistics_are_of_the_softmax_rows_that_the_model_has() -> None:
    """The call that is observed is the one that the output is made of."""
    call = _call(is_causal=True, padded=0)
    output = softmax_attention(call.query, call.key, call.key, **call.arguments())
    plain = torch.nn.functional.scaled_dot_product_attention(
        call.query, call.key, call.key, is_causal=True
    )
    assert_same(output, plain)
