"""One self-contained HTML page: the table and the curves of a comparison."""

import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from gibbsian.reports.curves import comparison_figures
from gibbsian.reports.table import COLUMNS, comparison_title, table_rows


def comparison_page(results: Mapping[str, Any]) -> str:
    """The page's HTML; it loads nothing, so it opens without a network.

    Every text from the results is escaped.

    Args:
        results: content of `results.json`.
    """
    figures = comparison_figures(results)
    sections = "".join(
        f"<section><h2>{escape(figure['title'])}</h2><p>{escape(figure['caption'])}</p>"
        f'<div class="figure" id="figure-{i}"></div></section>'
        for i, figure in enumerate(figures)
    )
    template = resources.files("gibbsian.reports") / "page.html"
    return Template(template.read_text(encoding="utf-8")).substitute(
        title=escape(comparison_title(results)),
        text=escape(_describe_text(results)),
        table=_table(results),
        legend="".join(f"<dt>{escape(c.title)}</dt><dd>{escape(c.meaning)}</dd>" for c in COLUMNS),
        sections=sections,
        settings=escape(_settings(results)),
        figures=_script_json([{k: f[k] for k in ("data", "layout")} for f in figures]),
        plotly=get_plotlyjs(),
    )


def _describe_text(results: Mapping[str, Any]) -> str:
    text, kind = results["text"], results["config"]["model"]
    predicted = "masked bytes" if kind == "encoder" else "every byte"
    return (
        f"Text: {text['name']}, {text['bytes']:,} bytes; every tenth of 50 blocks is held out. "
        f"Tokens: {results['config']['tokens']}. Loss on {predicted}. "
        f"Machine: {results['machine']['processor']}, {results['machine']['torch_threads']} "
        f"threads, device {results['machine']['device']}."
    )


def _table(results: Mapping[str, Any]) -> str:
    head = "".join(f'<th title="{escape(c.meaning)}">{escape(c.title)}</th>' for c in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table_rows(results)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _settings(results: Mapping[str, Any]) -> str:
    kept = {name: results[name] for name in ("config", "text", "machine", "versions")}
    return json.dumps(kept, indent=1, ensure_ascii=False)


def _script_json(content: Any) -> str:
    # inside <script>, "</" and "<!--" would be read as markup
    return json.dumps(content).replace("<", "\\u003c").replace("\u2028", "\\u2028")
