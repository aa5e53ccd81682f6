"""Saving and loading: the attention and its parameters come back exactly, or there is an error."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    PreTrainedModel,
)

from gibbsian import _errors
from gibbsian.attention import AES, Entmax
from gibbsian.integrations.transformers import attention_layers, load, remove, use
from gibbsian.normalizers.schedules import Constant, LearnableConstant, LearnableRamp, Linear
from gibbsian.statistics import GibbsStatistics
from tests.integrations.transformers.families import FAMILIES, batch_for, build, llama, outputs_of


def trained(name: str = "llama") -> PreTrainedModel:
    """A model whose schedule parameters differ from layer to layer and head to head."""
    model = use(build(name), AES(schedule=LearnableRamp()))
    with torch.no_grad():
        for attention in attention_layers(model).values():
            for parameter in attention.parameters():
                parameter.add_(torch.randn_like(parameter))
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trained().save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FAMILIES)
def test_a_saved_model_comes_back(name: str, tmp_path: Path) -> None:
    model = trained(name)
    model.save_pretrained(tmp_path)
    back = load(type(model), tmp_path)
    batch = batch_for(model)
    with torch.no_grad():
        assert torch.equal(outputs_of(back, batch), outputs_of(model, batch))
    for key, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor), key
    assert not back.training


def test_the_format(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert config["gibbsian_attention"]["name"] == "aes"
    assert config["gibbsian_attention"]["schedule"]["name"] == "learnable_ramp"
    keys = {k for k in load_file(saved / "model.safetensors") if "gibbsian" in k}
    assert "model.layers.1.self_attn.gibbsian_attention.schedule.raw_low" in keys
    assert len(keys) == 6


def test_options_without_parameters_come_back(tmp_path: Path) -> None:
    model = use(llama(), AES(schedule=Linear(low=0.3, high=0.8, zeta_max=0.7)))
    model.save_pretrained(tmp_path)
    (first, _) = attention_layers(load(AutoModelForCausalLM, tmp_path)).values()
    assert first.to_config() == model.config.gibbsian_attention
    # the name alone finds the saved options, too
    again = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="gibbsian_aes")
    batch = batch_for(again)
    with torch.no_grad():
        assert torch.equal(outputs_of(again, batch), outputs_of(model.eval(), batch))


def test_the_name_alone_does_not_lose_parameters_in_silence(saved: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved, attn_implementation="gibbsian_aes")
    with pytest.raises(_errors.CheckpointError, match="load"):
        model(**batch_for(model).inputs)


def test_shards(tmp_path: Path) -> None:
    model = trained()
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    back = load(AutoModelForCausalLM, str(tmp_path))
    for key, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], tensor), key


def test_a_base_model_is_loaded_from_one_with_a_head(saved: Path) -> None:
    with pytest.warns(UserWarning, match="left over"):
        base = load(AutoModel, saved)
    whole = load(LlamaForCausalLM, saved)
    for key, tensor in base.state_dict().items():
        assert torch.equal(whole.state_dict()[f"model.{key}"], tensor), key


def test_a_new_head_is_announced(saved: Path) -> None:
    with pytest.warns() as announced:
        load(AutoModelForSequenceClassification, saved, num_labels=3)
    said = [str(warning.message) for warning in announced]
    assert any("are new" in message and "score.weight" in message for message in said)
    assert any("left over" in message and "lm_head.weight" in message for message in said)


def test_a_loaded_model_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    load(AutoModelForCausalLM, saved).save_pretrained(tmp_path / "again")
    first, second = (load_file(f / "model.safetensors") for f in (saved, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_removed_attention_is_not_saved(tmp_path: Path) -> None:
    model, own = trained(), build("llama")
    assert remove(model) is model
    model.save_pretrained(tmp_path)
    assert "gibbsian" not in (tmp_path / "config.json").read_text()
    assert not any("gibbsian" in key for key in load_file(tmp_path / "model.safetensors"))
    with pytest.raises(_errors.CheckpointError, match="gibbsian_attention"):
        load(AutoModelForCausalLM, tmp_path)
    batch = batch_for(own)
    with torch.no_grad():
        assert torch.equal(outputs_of(model, batch), outputs_of(own, batch))


def test_an_attention_placed_by_name_is_removed_too() -> None:
    model = build("llama")
    model.set_attn_implementation("gibbsian_entmax")
    model(**batch_for(model).inputs)
    remove(model, attn_implementation="eager")
    assert not attention_layers(model)
    assert not hasattr(model.config, "gibbsian_attention")
    assert model.config._attn_implementation == "eager"


class _Own(torch.nn.Module):
    """A schedule that no description can name."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(0.25))

    def forward(self, statistics: GibbsStatistics) -> Tensor:
        return self.level.expand(statistics.entropy.shape)


def test_a_schedule_of_the_users_own_needs_the_attention(tmp_path: Path) -> None:
    model = use(llama(), AES(schedule=_Own()))
    with torch.no_grad():
        model.model.layers[1].self_attn.gibbsian_attention.schedule.level.fill_(0.75)
    model.save_pretrained(tmp_path)
    with pytest.raises(_errors.CheckpointError, match="`attention` must be given"):
        load(AutoModelForCausalLM, tmp_path)
    back = load(AutoModelForCausalLM, tmp_path, attention=AES(schedule=_Own()))
    assert back.model.layers[1].self_attn.gibbsian_attention.schedule.level == 0.75


def _one_line(error: pytest.ExceptionInfo[_errors.CheckpointError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_missing_parameters(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    del weights["model.layers.0.self_attn.gibbsian_attention.schedule.raw_low"]
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(_errors.CheckpointError) as error:
        load(AutoModelForCausalLM, saved)
    assert "raw_low" in _one_line(error)
    assert "layers.0.self_attn" in _one_line(error)


def test_unknown_parameters(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    weights["model.layers.7.self_attn.gibbsian_attention.schedule.raw_low"] = torch.zeros(4)
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(_errors.CheckpointError, match=r"no place for.*layers\.7"):
        load(AutoModelForCausalLM, saved)


def test_parameters_of_another_attention(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["gibbsian_attention"] = AES(schedule=LearnableConstant()).to_config()
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(_errors.CheckpointError) as error:
        load(AutoModelForCausalLM, saved)
    assert "config.json" in _one_line(error)


def test_parameters_of_another_size(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    key = "model.layers.0.self_attn.gibbsian_attention.schedule.raw_low"
    weights[key] = torch.zeros(3)
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(_errors.CheckpointError, match="raw_low"):
        load(AutoModelForCausalLM, saved)


def test_a_model_without_gibbsian_attention(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    with pytest.raises(_errors.CheckpointError, match="gibbsian_attention"):
        load(AutoModelForCausalLM, tmp_path)


def test_an_unknown_attention(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["gibbsian_attention"]["name"] = "nothing"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(_errors.GibbsianError, match="nothing"):
        load(AutoModelForCausalLM, saved)


def test_truncated_weights(saved: Path) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(_errors.CheckpointError) as error:
        load(AutoModelForCausalLM, saved)
    assert str(saved) in _one_line(error)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(_errors.CheckpointError) as error:
        load(AutoModelForCausalLM, tmp_path / "nothing")
    assert "nothing" in _one_line(error)


def test_torch_state_dicts_carry_the_parameters() -> None:
    model, other = trained(), use(build("llama"), AES(schedule=LearnableRamp()))
    other.load_state_dict(model.state_dict())
    batch = batch_for(model)
    with torch.no_grad():
        assert torch.equal(outputs_of(other, batch), outputs_of(model, batch))


def test_constant_zero_is_not_what_is_loaded_by_accident(tmp_path: Path) -> None:
    sparse = use(build("llama"), Entmax(zeta=0.9))
    sparse.save_pretrained(tmp_path)
    batch = batch_for(sparse)
    with torch.no_grad():
        back = outputs_of(load(AutoModelForCausalLM, tmp_path), batch)
        dense = outputs_of(use(build("llama"), AES(schedule=Constant(zeta=0.0))), batch)
    assert (back - dense).abs().max() > 1e-3
