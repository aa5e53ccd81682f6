"""The code of docs/usage/engines.md that needs an engine, where the engine is."""

import re
from pathlib import Path

import pytest

from gibbsian._errors import DataError
from gibbsian.experiments.pretrained import smollm2_gguf
from tests.integrations.lm_eval.small import write_model, write_task

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]
PAGE = Path(__file__).parents[2] / "docs" / "usage" / "engines.md"
BLOCKS = re.findall(
    r'```python title="with (\S+),[^"]*"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL
)
MODULES = {"llama-cpp-python": "llama_cpp", "lm-eval": "lm_eval"}


def packaged():
    try:
        return smollm2_gguf()
    except DataError as error:
        pytest.skip(str(error))


# vLLM's is run by tests/integrations/vllm, with other options: its page needs minutes
@pytest.mark.parametrize("engine", sorted(MODULES))
def test_the_code_runs(engine, tmp_path, monkeypatch, capsys):
    pytest.importorskip(MODULES[engine])
    monkeypatch.chdir(tmp_path)
    if engine == "lm-eval":
        write_model(tmp_path / "model")
        write_task(tmp_path / "tasks")
    else:
        (tmp_path / "model.gguf").symlink_to(packaged())
    names = {}
    exec(compile(dict(BLOCKS)[engine], str(PAGE), "exec"), names)  # noqa: S102  (the page is ours)
    if engine == "lm-eval":
        assert len(names["results"]["samples"]["sums"]) == 6
    else:
        assert len(capsys.readouterr().out.split()) > 3
