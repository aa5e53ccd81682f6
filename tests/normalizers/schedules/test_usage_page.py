import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "usage" / "schedules.md"


def test_the_code_on_the_page_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  (the page is ours)
    assert "tensor" in capsys.readouterr().out
