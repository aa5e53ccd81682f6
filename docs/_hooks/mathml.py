"""Turn the site's mathematics into MathML while it is built: no script is needed to read it.

`pymdownx.arithmatex` finds `$...$` and `$$...$$` in pages and docstrings; this hook converts what
it found. A formula that cannot be converted is a warning, which a strict build makes an error.
"""

import html
import logging
import re

from latex2mathml.converter import convert
from mkdocs.structure.pages import Page

_LOG = logging.getLogger("mkdocs.hooks.mathml")

_FOUND = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">'
    r"(?:\\\((?P<inline>.*?)\\\)|\\\[(?P<block>.*?)\\\])</(?P=tag)>",
    re.DOTALL,
)
# What latex2mathml does not know comes out as an identifier that begins with a backslash.
_UNKNOWN_COMMAND = re.compile(r"<m[ionst]\w*>(\\\w+)")

# A named function and its argument stand apart, log p, unless a bracket separates them. The
# look-behind leaves alone the name inside log_2, whose element may have no third child.
_FUNCTION_APPLIED = re.compile(
    r"((?<!<msub>)(?<!<msup>)(?<!<msubsup>)<mi>[a-z]{2,}</mi>"
    r"|<(m(?:sub|sup|subsup))><mi>[a-z]{2,}</mi>(?:<m[in]>[^<]*</m[in]>)+</\2>)"
    r"(?=<m(?:i|n|frac|sub|sup|subsup|sqrt)>)"
)


def to_mathml(latex: str, *, display: str) -> str:
    """Return the formula as a `<math>` element; `display` is "inline" or "block".

    Raises:
        ValueError: the formula cannot be converted.
    """
    try:
        mathml = convert(latex, display=display)
    except Exception as error:  # latex2mathml has no base class of its own for its errors
        reason = f"{type(error).__name__} {error}".strip()
        raise ValueError(f"`{latex}` is no LaTeX that latex2mathml reads ({reason}).") from error
    if unknown := _UNKNOWN_COMMAND.search(mathml):
        raise ValueError(f"`{latex}` uses {unknown[1]}, which latex2mathml does not know.")
    return _FUNCTION_APPLIED.sub(r'\1<mspace width="0.1667em"/>', mathml)


def on_page_content(content: str, page: Page, **_: object) -> str:
    """Replace every formula that arithmatex marked."""

    def replace(found: re.Match[str]) -> str:
        display = "inline" if found["block"] is None else "block"
        latex = html.unescape(found["inline"] if found["block"] is None else found["block"]).strip()
        try:
            mathml = to_mathml(latex, display=display)
        except ValueError as error:
            _LOG.warning("%s: %s", page.file.src_uri, error)
            return found[0]
        return mathml if display == "inline" else f'<div class="equation">{mathml}</div>'

    return _FOUND.sub(replace, content)
