"""The python blocks of every page under docs/usage run, a page's one after the other."""

from pathlib import Path

import pytest

from tests.test_readme import Block, run, runnable_blocks

PAGES = sorted((Path(__file__).parents[1] / "docs" / "usage").glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page: Path, tmp_path: Path) -> None:
    blocks = [b for b in runnable_blocks(page.read_text()) if b.language == "python"]
    if not blocks:
        pytest.skip("no python on this page")
    code = "\n".join(block.code for block in blocks)
    done = run(Block(line=1, language="python", code=code), tmp_path)
    assert done.returncode == 0, f"{page.name}:\n{done.stdout}\n{done.stderr}"
