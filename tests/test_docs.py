"""What the sources say about the docs: pages and headings that they cite exist."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_CITED = re.compile(r"docs/(?P<page>[\w/-]+\.md)(?:#(?P<anchor>[\w-]+))?")
_HEADING = re.compile(r"^#+ (?P<title>.+?)(?: *\{ *#(?P<name>[\w-]+) *\})? *$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, by the rule of Python-Markdown's toc extension."""
    return {
        found["name"]
        or re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", found["title"]).strip().lower())
        for found in _HEADING.finditer(_FENCED.sub("", page))
    }


CITED = sorted(
    {
        (str(source.relative_to(ROOT)), found["page"], found["anchor"] or "")
        for source in (ROOT / "gibbsian").rglob("*.py")
        for found in _CITED.finditer(source.read_text())
    }
)


@pytest.mark.parametrize(("source", "page", "anchor"), CITED)
def test_a_cited_page_and_heading_exist(source: str, page: str, anchor: str) -> None:
    assert (DOCS / page).is_file(), f"{source} cites docs/{page}, which does not exist"
    if anchor:
        assert anchor in anchors((DOCS / page).read_text()), f"{source} cites docs/{page}#{anchor}"


def test_decisions_are_numbered_without_repetition() -> None:
    pages = [path.name for path in (DOCS / "decisions").glob("*.md") if path.name != "index.md"]
    assert all(re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", page) for page in pages), pages
    repeated = [
        number for number, times in Counter(page[:4] for page in pages).items() if times > 1
    ]
    assert not repeated


def test_anchors_follow_the_site_s_rule() -> None:
    page = "# One page\n\n## Causal form, *blocked*\n\n### Named { #other }\n\n```\n# code\n```\n"
    assert anchors(page) == {"one-page", "causal-form-blocked", "other"}
