"""The study of sampling's costs runs, checks before it times, and its ratios are of its times."""

import dataclasses
import json
import sys

import pytest
import torch

from gibbsian._errors import DataError
from gibbsian.experiments.studies import sampling_costs as study
from gibbsian.sampling.policies import POLICIES, Fixed


@pytest.fixture
def tiny(monkeypatch):
    shape = {
        "vocab_size": 97,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    monkeypatch.setattr(study, "SHAPE", shape)
    monkeypatch.setattr(study, "CACHED", 9)
    monkeypatch.setattr(study, "BATCH", 3)
    monkeypatch.setattr(study, "VOCABULARY", 301)

    def missing():
        raise DataError("not installed")

    monkeypatch.setattr(study, "smollm2_folder", missing)


@pytest.mark.usefixtures("tiny")
def test_the_study_writes_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sampling_costs", "--quick", "--out", str(tmp_path)])
    study.main()
    found = json.loads((tmp_path / "sampling-costs.json").read_text())
    steps, batch = found["decoding"], found["filtering"]
    assert steps["model"].startswith("random weights")
    assert set(steps["of_a_decode_step"]) == set(POLICIES)
    for name, share in steps["of_a_decode_step"].items():
        of, whole = (steps["seconds"][key]["median"] for key in (name, "decode"))
        assert share["ratio"] == pytest.approx(of / whole)
    for pair, share in batch["ratios"].items():
        above, below = (batch["seconds"][key]["median"] for key in pair.split("/"))
        assert share["ratio"] == pytest.approx(above / below)


@pytest.mark.usefixtures("tiny")
def test_every_decode_step_has_the_same_past():
    model = study.Decoding()
    first = model.step()
    model.forget()
    assert torch.equal(model.step(), first)


def test_a_wrong_policy_is_not_timed(monkeypatch):
    logits = torch.randn(1, 301, generator=torch.Generator().manual_seed(0)) * 3
    good = study.row_statistics(logits)
    study.check_policy(Fixed(min_p=0.05), logits)
    off = dataclasses.replace(good, entropy=good.entropy * 1.01)
    # the package has a function of the module's name
    module = sys.modules["gibbsian.sampling.step"]
    monkeypatch.setattr(module, "row_statistics", lambda _: off)
    with pytest.raises(DataError, match="fixed"):
        study.check_policy(Fixed(min_p=0.05), logits)


@pytest.mark.parametrize("name", ["statistics_min_p", "min_p_peer", "top_p", "top_p_peer"])
@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("mistake", ["keeps one more", "cuts one more"])
def test_a_wrong_filter_is_not_timed(monkeypatch, name, mistake):
    checked = study.check_batch

    def spoiled(logits, operations):
        def wrong():
            result = operations[name]()
            filtered = (result[1] if isinstance(result, tuple) else result).clone()
            kept = filtered[1] > -torch.inf
            order = logits[1].argsort(descending=True)
            index = order[int(kept.sum()) - (mistake == "cuts one more")]
            filtered[1, index] = logits[1, index] if mistake == "keeps one more" else -torch.inf
            return (result[0], filtered) if isinstance(result, tuple) else filtered

        return checked(logits, {**operations, name: wrong})

    monkeypatch.setattr(study, "check_batch", spoiled)
    with pytest.raises(DataError, match="differs from float64"):
        study.filtering(1)
