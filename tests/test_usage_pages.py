"""The code on the usage pages runs, each page from top to bottom."""

import re
from pathlib import Path

import pytest

USAGE = Path(__file__).parents[1] / "docs" / "usage"


# compare.md trains models: tests/cli/test_documentation.py runs it at a smaller size; what serve.md
# has needs vLLM: tests/integrations/vllm
ELSEWHERE = {"compare.md", "serve.md"}


@pytest.mark.parametrize("name", sorted({p.name for p in USAGE.glob("*.md")} - ELSEWHERE))
def test_the_code_on_the_page_runs(name, tmp_path, monkeypatch):
    page = USAGE / name
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 2
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)  # noqa: S102  (the pages are ours)
