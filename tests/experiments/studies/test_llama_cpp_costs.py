"""The study of what policies cost in llama.cpp runs, and writes what it says."""

import json
import sys

import pytest

from gibbsian._errors import DataError
from gibbsian.experiments.pretrained import smollm2_gguf
from gibbsian.experiments.studies import llama_cpp_costs as study
from gibbsian.sampling.policies import POLICIES


@pytest.mark.engine
def test_the_study_writes_its_figures(tmp_path, monkeypatch):
    pytest.importorskip("llama_cpp")
    try:
        smollm2_gguf()
    except DataError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(study, "TOKENS", 2)
    monkeypatch.setattr(sys, "argv", ["llama_cpp_costs", "--quick", "--out", str(tmp_path)])
    study.main()
    found = json.loads((tmp_path / "llama-cpp-costs.json").read_text())["writing"]
    assert set(found["of_alone"]) == {*POLICIES, "fixed, drawn here"}
    assert found["seconds"]["alone"]["median"] > 0
    assert found["vocabulary"] == 49_152
