"""Lay out the site: sections in a fixed order, pages in them by name, API pages from the package.

A new page needs no entry anywhere: a Markdown file in a section's folder, or a public subpackage of
gibbsian, is in the navigation.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gibbsian"

SECTIONS = ("usage", "api", "derivations", "experiments", "decisions")
"""Folders of docs/, in the order of the tabs."""

_CITED_PAGE = re.compile(r"(?<![\w/])docs/([\w/-]+)\.md(?:#([\w-]+))?")


def _exports(folder: Path) -> bool:
    return "__all__" in (folder / "__init__.py").read_text()


def public_modules() -> list[str]:
    """Return the dotted names of the subpackages that get a page.

    Those that export names, unless the package around them exports the same: each name is
    documented once, and gibbsian itself only repeats what its subpackages export.
    """
    folders = sorted(path.parent for path in PACKAGE.rglob("*/__init__.py"))
    return [
        ".".join(folder.relative_to(ROOT).parts)
        for folder in folders
        if _exports(folder) and (folder.parent == PACKAGE or not _exports(folder.parent))
    ]


def _api_page(module: str) -> str:
    return f"# {module}\n\n::: {module}\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, then write the navigation."""
    for module in public_modules():
        uri = f"api/{module.removeprefix('gibbsian.').replace('.', '-')}.md"
        files.append(File.generated(config, uri, content=_api_page(module)))
    for source in ("CONTRIBUTING.md", "CHANGELOG.md"):
        files.append(File.generated(config, source.lower(), abs_src_path=str(ROOT / source)))

    pages = [file.src_uri for file in files.documentation_pages() if file.inclusion.is_in_nav()]
    navigation = [{"Home": "index.md"}]
    for section in SECTIONS:
        # A section's index.md comes first, then its pages by name.
        inside = sorted(
            (uri for uri in pages if uri.startswith(f"{section}/")),
            key=lambda uri: (not uri.endswith("/index.md"), uri.lower()),
        )
        if inside:
            title = "API" if section == "api" else section.capitalize()
            navigation.append({title: inside})
    navigation.append({"Project": ["contributing.md", "changelog.md"]})
    config.nav = navigation
    return files


def on_page_content(content: str, page: Page, files: Files, **_: object) -> str:
    """Link the pages that docstrings cite by path, docs/derivations/gibbs.md#varentropy."""

    def link(cited: re.Match[str]) -> str:
        target = files.get_file_from_path(f"{cited[1]}.md")
        if target is None:
            return cited[0]
        url = get_relative_url(target.url, page.url)
        return f'<a href="{url}{"#" + cited[2] if cited[2] else ""}">{cited[0]}</a>'

    return _CITED_PAGE.sub(link, content)
