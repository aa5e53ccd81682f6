"""Training: schedules learn, checkpointing recomputes the same, Trainer and compile work."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from gibbsian.attention import AES, Attention, Entmax, Softmax
from gibbsian.integrations.transformers import attention_layers, load, use
from gibbsian.normalizers.schedules import LearnableConstant, LearnableRamp
from tests.integrations.transformers.families import LENGTH, VOCABULARY, batch_for, build, llama
from tests.tolerances import assert_same

# The new name is not in the oldest transformers that we support.
pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")

LEARNED = AES(schedule=LearnableRamp(low=0.2, high=0.99, zeta_max=0.9))


def _loss(model: PreTrainedModel, **options: Any) -> Tensor:
    tokens = batch_for(model).inputs["input_ids"]
    return model(input_ids=tokens, labels=tokens, **options).loss


def _gradients(model: PreTrainedModel, **options: Any) -> dict[str, Tensor]:
    _loss(model, **options).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _without_dropout(model: PreTrainedModel) -> PreTrainedModel:
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return model.train()


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_gradient_checkpointing_gives_the_same_gradients(name: str, reentrant: bool) -> None:
    plain = _gradients(_without_dropout(use(build(name), LEARNED)))
    model = _without_dropout(use(build(name), LEARNED))
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    checkpointed = _gradients(model)
    assert any("gibbsian_attention" in key for key in checkpointed)
    assert plain.keys() == checkpointed.keys()
    for key, gradient in plain.items():
        assert_same(checkpointed[key], gradient)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_statistics_can_be_had_while_checkpointing(name: str) -> None:
    model = use(build(name), LEARNED).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    gradients = _gradients(model, output_attentions=True)
    assert any("gibbsian_attention" in key for key in gradients)


def _data() -> list[dict[str, Tensor]]:
    rows = torch.randint(3, VOCABULARY, (8, LENGTH), generator=torch.Generator().manual_seed(3))
    return [{"input_ids": row, "labels": row} for row in rows]


def _trainer(model: PreTrainedModel, folder: Path, **options: Any) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        max_steps=2,
        learning_rate=0.05,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **options,
    )
    return Trainer(model=model, args=arguments, train_dataset=_data())


@pytest.mark.parametrize("options", [{}, {"bf16": True}, {"gradient_checkpointing": True}])
def test_trainer_trains_the_schedule_and_its_checkpoint_loads(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = use(build("llama"), AES(schedule=LearnableConstant(zeta=0.5)))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = _trainer(model, tmp_path, **options)
    trainer.train()
    for name, parameter in model.named_parameters():
        if "gibbsian_attention" in name:
            assert (parameter != before[name]).all(), name
    trainer.save_model(str(tmp_path / "saved"))
    back = load(AutoModelForCausalLM, tmp_path / "saved")
    for key, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor), key


class _UndecayedSchedules(Trainer):
    """The recipe of docs/usage/transformers.md."""

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        names = super().get_decay_parameter_names(model)
        return [name for name in names if "gibbsian_attention" not in name]


def test_schedules_can_be_kept_from_weight_decay(tmp_path: Path) -> None:
    decayed = {}
    for kind in (Trainer, _UndecayedSchedules):
        model = use(build("llama"), LEARNED)
        arguments = TrainingArguments(
            output_dir=str(tmp_path), weight_decay=0.1, use_cpu=True, report_to=[]
        )
        trainer = kind(model=model, args=arguments, train_dataset=_data())
        groups = trainer.create_optimizer().param_groups
        name_of = {parameter: name for name, parameter in model.named_parameters()}
        decayed[kind] = {name_of[p] for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    dropped = decayed[Trainer] - decayed[_UndecayedSchedules]
    assert dropped == {name for name in decayed[Trainer] if "gibbsian_attention" in name}
    assert len(dropped) == 6
    assert decayed[_UndecayedSchedules]


def test_a_name_is_enough() -> None:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    for name, expected in (
        ("gibbsian_softmax", Softmax),
        ("gibbsian_entmax", Entmax),
        ("gibbsian_aes", AES),
    ):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=name)
        parameters = len(list(model.parameters()))
        _loss(model).backward()
        layers = attention_layers(model)
        assert [type(attention) for attention in layers.values()] == [expected] * 2
        assert len(list(model.parameters())) == parameters


def test_a_name_is_enough_for_a_pretrained_model(tmp_path: Path) -> None:
    own = build("llama")
    own.save_pretrained(tmp_path)
    named = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="gibbsian_entmax")
    batch = batch_for(own)
    with torch.no_grad():
        expected = use(own, Entmax())(**batch.inputs).logits
        assert_same(named(**batch.inputs).logits, expected)


def test_half_precision() -> None:
    model = use(build("llama"), LEARNED).to(torch.bfloat16)
    with torch.no_grad():
        logits = model(**batch_for(model).inputs).logits
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


def test_dropout_is_only_in_training() -> None:
    model = use(llama(attention_dropout=0.5), Entmax(zeta=0.2))
    batch = batch_for(model)
    with torch.no_grad():
        assert torch.equal(model.eval()(**batch.inputs)[0], model(**batch.inputs)[0])
        model.train()
        assert not torch.equal(model(**batch.inputs)[0], model(**batch.inputs)[0])


@pytest.mark.compile
# What torch's tracer says about its own doings.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("attention", [Softmax(), LEARNED], ids=["softmax", "aes"])
def test_compiled_models(attention: Attention) -> None:
    model = use(build("llama"), attention)
    compiled = torch.compile(model, backend="aot_eager")
    inputs = batch_for(model, "left").inputs
    present = inputs["attention_mask"].bool()
    plain = model(**inputs).logits[present]
    fast = compiled(**inputs).logits[present]
    assert_same(fast, plain)
    fast.square().mean().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "gibbsian_attention" in n)
