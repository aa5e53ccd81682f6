"""One self-contained HTML page of an inspection: nothing is loaded, nothing is sent."""

import json
import re
from collections.abc import Mapping
from html import escape
from string import Template
from typing import Any

from gibbsian.reports.assets import asset, content_hash
from gibbsian.reports.inspection.compact import QUADRANTS, compacted, model_name
from gibbsian.reports.inspection.findings import Finding, find
from gibbsian.reports.inspection.quantities import described
from gibbsian.reports.inspection.schema import check_inspection

# In the order in which the page runs them, as one script.
_SCRIPTS = (
    *("core", "colour", "quantities", "heatmap", "maps", "head", "histograms"),
    *("changes", "scatter", "response", "tokens", "text", "page"),
)

_NOT_SCALAR_VALUES = re.compile("[\ud800-\udfff]")


def inspection_page(
    inspection: Mapping[str, Any], baseline: Mapping[str, Any] | None = None
) -> str:
    """The page's HTML: maps of all heads, distributions, the text, and what sparsity would do.

    Panels whose data are not there are not on the page. The page needs no network, and forbids
    itself any by a content security policy that allows its own script and style only.

    Args:
        inspection: content of `inspection.json`.
        baseline: another one, compared with: the same model before training, or another model.

    Raises:
        DataError: something in `inspection` or `baseline` does not fit the schema.
    """
    check_inspection(inspection, "inspection")
    if baseline is not None:
        check_inspection(baseline, "baseline")
    style = asset("inspection/assets/page.css")
    script = (
        '"use strict";\n(() => {\n'
        + "\n".join(asset(f"inspection/assets/{s}.js") for s in _SCRIPTS)
        + "})();"
    )
    page = Template(asset("inspection/assets/template.html")).substitute(
        title=escape(f"{model_name(inspection)}: attention, inspected"),
        model=escape(model_name(inspection)),
        facts=_facts(inspection, baseline),
        findings=_findings(find(inspection, baseline)),
        glossary=_glossary(inspection),
        settings=escape(_settings(inspection, baseline)),
        data=script_json(_data(inspection, baseline)),
        policy=f"default-src 'none'; img-src data:; style-src {content_hash(style)}; "
        f"script-src {content_hash(script)}; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
    )
    # A file is written in UTF-8, which has no lone surrogates (a damaged name may hold one).
    return _NOT_SCALAR_VALUES.sub("\ufffd", page)


def script_json(content: Any) -> str:
    """JSON that neither ends a `<script>`, nor opens a comment or an entity inside it."""
    written = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", written)


def _data(inspection: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    sides = [inspection] if baseline is None else [inspection, baseline]
    names = {
        name for side in sides for key in ("maps", "histograms") for name in side.get(key) or {}
    }
    return {
        "main": compacted(inspection),
        "baseline": None if baseline is None else compacted(baseline, alternatives=False),
        "quantities": described(names),
        "quadrants": list(QUADRANTS),
    }


def _facts(inspection: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    kind = {"causal": "causal language model", "encoder": "encoder", "vision": "vision model"}
    facts = {
        "Model": f"{kind[inspection['kind']]}, {_many(inspection['layers'], 'layer')} of "
        f"{_many(inspection['heads'], 'head')}",
        "Input": _input(inspection),
        "Schedule": _schedule(inspection.get("schedule") or {}),
        "Baseline": "" if baseline is None else _baseline(baseline),
        "Made": str(inspection.get("created") or "")[:16].replace("T", " "),
    }
    return "".join(
        f"<div><dt>{name}</dt><dd><bdi>{escape(text)}</bdi></dd></div>"
        for name, text in facts.items()
        if text
    )


def _input(inspection: Mapping[str, Any]) -> str:
    lengths = [i["length"] for i in inspection["inputs"]]
    unit = "patches" if inspection["kind"] == "vision" else "tokens"
    if len(lengths) == 1:
        return f"{inspection['inputs'][0]['name']}, {lengths[0]:,} {unit}"
    names = ", ".join(i["name"] for i in inspection["inputs"][:3])
    more = ", …" if len(lengths) > 3 else ""
    return f"{len(lengths)} inputs ({names}{more}), {sum(lengths):,} {unit}"


def _baseline(baseline: Mapping[str, Any]) -> str:
    parts = (model_name(baseline), _input(baseline), _schedule(baseline.get("schedule") or {}))
    return "; ".join(part for part in parts if part)


def _many(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _schedule(config: Mapping[str, Any]) -> str:
    options = (
        f"{key} {value:g}" if isinstance(value, int | float) else f"{key} {value}"
        for key, value in config.items()
        if key != "name" and isinstance(value, int | float | str)
    )
    name, shown = str(config.get("name", "")), ", ".join(options)
    return (f"{name} ({shown})" if shown else name).replace("_", " ")


def _findings(findings: list[Finding]) -> str:
    items = []
    for finding in findings:
        target = {
            "map": finding.map,
            "head": finding.head and f"{finding.head[0]}.{finding.head[1]}",
            "token": finding.token,
        }
        data = "".join(f' data-{k}="{escape(str(v))}"' for k, v in target.items() if v is not None)
        items.append(
            f'<li><button type="button" class="finding"{data}><b>{escape(finding.title)}</b>'
            f"<span>{escape(finding.text)}</span></button></li>"
        )
    if not items:
        return ""
    return (
        '<section id="look" aria-labelledby="look-title"><h2 id="look-title">What to look at</h2>'
        f'<ol class="findings">{"".join(items)}</ol></section>'
    )


def _glossary(inspection: Mapping[str, Any]) -> str:
    return "".join(
        f"<div><dt>{escape(q['title'])} <i>{escape(q['symbol'])}</i></dt>"
        f"<dd>{escape(q['meaning'])}</dd></div>"
        for q in described(set(inspection["maps"]))
    )


def _settings(inspection: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    kept = ("command", "created", "kind", "inputs", "schedule", "thresholds", "machine", "versions")
    settings = {key: inspection[key] for key in ("model", *kept) if key in inspection}
    if baseline is not None:
        settings["baseline"] = {key: baseline[key] for key in ("model", *kept) if key in baseline}
    return json.dumps(settings, indent=2, ensure_ascii=False)
