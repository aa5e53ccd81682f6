"""The study's arithmetic, on a tiny model."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gibbsian._errors import DataError
from gibbsian.attention import Entmax, Softmax
from gibbsian.experiments.studies import smollm2_aes as study


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def test_losses_are_those_of_the_model(model: LlamaForCausalLM) -> None:
    windows = study.windows_of(torch.randint(0, 61, (50,)), 2, 12)
    with torch.no_grad():
        expected = [model(window, labels=window).loss for window in windows]
    losses, statistics = study.measure(model, Softmax(), windows)
    assert losses.shape == (22,)
    torch.testing.assert_close(losses.mean(), torch.stack(expected).mean())
    assert statistics["support_fraction"] == 1.0
    assert statistics["support_keys"] == pytest.approx(6.5)
    assert statistics["zeta"] == 0.0


def test_support_is_counted(model: LlamaForCausalLM) -> None:
    windows = study.windows_of(torch.randint(0, 61, (50,)), 2, 12)
    _, statistics = study.measure(model, Entmax(zeta=1.0), windows)
    assert 1.0 <= statistics["support_keys"] < 6.5
    by_layer = statistics["support_fraction_by_layer"]
    assert statistics["support_fraction"] == pytest.approx(sum(by_layer) / 2, abs=1e-3)


def test_windows_are_spread_over_the_text() -> None:
    windows = study.windows_of(torch.arange(100), 3, 10)
    assert [window[0, 0].item() for window in windows] == [0, 33, 66]
    assert all(window.shape == (1, 10) for window in windows)
    with pytest.raises(DataError, match="--windows"):
        study.windows_of(torch.arange(20), 3, 10)


def test_interpolation_in_the_logarithm_of_the_support() -> None:
    rows = [
        {"family": "softmax", "support_fraction": 1.0, "loss": 3.0},
        {"family": "a", "support_fraction": 0.04, "loss": 5.0},
        {"family": "b", "support_fraction": 0.5, "loss": 3.5},
    ]
    table = {row["support_fraction"]: row for row in study.at_equal_support(rows)}
    assert table[0.2]["a"] == pytest.approx(math.exp(4.0)), "half way from 1 to 0.04"
    assert table[0.2]["b"] is None
    assert 3.0 < math.log(table[0.8]["b"]) < 3.5


def test_points_cover_every_family() -> None:
    families = [point.family for point in study.points()]
    assert families[0] == "softmax"
    assert len(set(families)) == 5
    largest = [point.zeta_max for point in study.points()]
    assert len(set(zip(families, largest, strict=True))) == len(families)


def test_the_command_writes_what_it_says(
    model: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class _Bytes:
        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [ord(c) % 61 for c in text]}

    for loader, loaded in (("AutoModelForCausalLM", model), ("AutoTokenizer", _Bytes())):
        monkeypatch.setattr(
            getattr(study, loader), "from_pretrained", lambda *_, result=loaded, **__: result
        )
    options = ["--out", str(tmp_path / "new"), "--model", "tiny", "--characters", "200"]
    study.main([*options, "--windows", "2", "--length", "16"])
    content = json.loads((tmp_path / "new" / "smollm2-aes.json").read_text())
    assert content["predictions"] == 30
    assert len(content["points"]) == len(list(study.points()))
    assert content["points"][0]["loss_increase"] == 0.0
    lines = (tmp_path / "new" / "smollm2-aes.csv").read_text().splitlines()
    assert len(lines) == 1 + len(content["points"])
    assert lines[0].startswith("family,zeta_max,perplexity,loss,")


@pytest.mark.parametrize("bad", [["--text", "no.txt"], ["--model", "no/model"]])
def test_bad_input_is_one_line(
    bad: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as exit_:
        study.main([*bad, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    assert exit_.value.code != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
