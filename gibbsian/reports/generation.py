"""One self-contained HTML page of a generated text: each token by its quadrant, S and V below."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gibbsian._errors import DataError
from gibbsian.reports.assets import asset, content_hash

_NOT_SCALAR_VALUES = re.compile("[\ud800-\udfff]")

QUADRANT_NAMES: Mapping[str, tuple[str, int]] = {
    "flowing": ("low S, low V", 0),
    "exploring": ("low S, high V", 1),
    "treading": ("high S, low V", 2),
    "mist": ("high S, high V", 3),
    "between": ("between the thresholds", 0),
}
"""What they mean, and the number of their colour on the pages of inspections."""

_COLUMNS = (
    ("S", "entropy", "Entropy of the model's distribution, nats"),
    ("V", "varentropy", "Varentropy of it, nats squared"),
    ("T", "temperature", "Temperature of the draw; 0 is greedy"),
    ("ζ", "zeta", "Sparsity of the draw"),
    ("kept", "kept", "Tokens that could be drawn"),
    ("−log p", "surprisal", "Surprisal of the token under the model, nats"),
    ("action", "action", "What was done"),
    ("branch", "branch", "Why: the policy's name for it"),
)


def generation_page(generation: Mapping[str, Any]) -> str:
    """The page's HTML. It needs no network and no script, and forbids itself both.

    Args:
        generation: what `gibbsian generate --json` prints.

    Raises:
        DataError: something else.
    """
    try:
        page = _page(generation)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            "`generation` must be what `gibbsian generate --json` prints, got something else "
            f"({type(error).__name__}: {error}). Generate it anew."
        ) from None
    # A file is written in UTF-8, which has no lone surrogates.
    return _NOT_SCALAR_VALUES.sub("\ufffd", page)


def _page(generation: Mapping[str, Any]) -> str:
    tokens: Sequence[Mapping[str, Any]] = generation["tokens"]
    style = asset("inspection/assets/page.css") + asset("generation.css")
    policy = f"default-src 'none'; img-src data:; style-src {content_hash(style)}; "
    policy += "base-uri 'none'; form-action 'none'"
    title = f"{generation['model']}: text, token by token"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header class="top">
  <p class="eyebrow">gibbsian generate</p>
  <h1><bdi>{escape(str(generation["model"]))}</bdi></h1>
  <dl class="facts">{_facts(generation)}</dl>
</header>
<main>
  <section><h2>The text</h2>{_legend(tokens)}
  <p class="text"><bdi><span class="prompt">{_prompt(generation)}</span>\
{"".join(map(_token, tokens))}</bdi></p></section>
  {_course(tokens, generation["thresholds"])}
  <section><h2>The tokens</h2><details><summary>All numbers</summary>{_table(tokens)}</details>
  <details><summary>Settings, machine and versions</summary>\
<pre tabindex="0">{escape(_settings(generation))}</pre></details></section>
</main>
</body>
</html>
"""


def _facts(generation: Mapping[str, Any]) -> str:
    policy = generation["policy"]
    count = len(generation["tokens"])
    facts = {
        "Policy": str(policy["name"]),
        "Thresholds": str(generation["calibrated_on"] or "the package's own"),
        "Seed": str(generation["seed"]),
        "Tokens": f"{count:,}, {_STOPS[generation['stopped']]}",
        "Made": str(generation["created"])[:16].replace("T", " "),
    }
    return "".join(
        f"<div><dt>{name}</dt><dd><bdi>{escape(text)}</bdi></dd></div>"
        for name, text in facts.items()
    )


_STOPS = {"end": "ended", "length": "cut at the length asked for", "interrupted": "interrupted"}


def _prompt(generation: Mapping[str, Any]) -> str:
    """A chat's answer begins a line of its own, a text just goes on."""
    return escape(generation["prompt"]) + ("\n\n" if generation["chat"] else "")


def _legend(tokens: Sequence[Mapping[str, Any]]) -> str:
    counts = {name: sum(t["quadrant"] == name for t in tokens) for name in QUADRANT_NAMES}
    items = "".join(
        f'<div><span class="q{colour}">{name}</span> {meaning}: {counts[name]}</div>'
        for name, (meaning, colour) in QUADRANT_NAMES.items()
    )
    return f'<div class="legend">{items}<div><span class="did">dotted</span> inserted, branched \
or resampled</div></div>'


def _token(token: Mapping[str, Any]) -> str:
    _, colour = QUADRANT_NAMES[token["quadrant"] or "between"]
    did = " did" if token["action"] in {"insert", "branch", "resample"} else ""
    told = ", ".join(f"{title} {_number(token[key])}" for title, key, _ in _COLUMNS[:6])
    title = f"{token['quadrant']} ({token['action']}): {told}"
    return f'<span class="t q{colour}{did}" title="{escape(title)}">{escape(token["text"])}</span>'


def _course(tokens: Sequence[Mapping[str, Any]], thresholds: Mapping[str, Any]) -> str:
    if len(tokens) < 2:
        return ""
    panels = []
    for key, name in (("entropy", "Entropy S, nats"), ("varentropy", "Varentropy V, nats²")):
        values = [token[key] for token in tokens]
        levels = [float(thresholds[f"{key}_{side}"]) for side in ("low", "high")]
        top = max([v for v in values if v is not None] + levels) or 1.0
        path, pen = [], "M"
        for x, value in enumerate(values):
            if value is None:
                pen = "M"
                continue
            path.append(f"{pen}{x} {100 - 100 * value / top:.2f}")
            pen = "L"
        lines = "".join(
            f'<path class="level" d="M0 {100 - 100 * y / top:.2f}H{len(tokens) - 1}"/>'
            for y in levels
        )
        panels.append(
            f"<figure><figcaption>{name}: 0 to {top:.2f}, thresholds dashed</figcaption>"
            f'<svg class="course" viewBox="0 0 {len(tokens) - 1} 100" preserveAspectRatio="none" '
            f'role="img" aria-label="{name}, token by token">{lines}'
            f'<path class="{key}" d="{"".join(path)}"/></svg></figure>'
        )
    return f"<section><h2>Its course</h2>{''.join(panels)}</section>"


def _table(tokens: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f'<th title="{escape(meaning)}">{title}</th>' for title, _, meaning in _COLUMNS)
    rows = "".join(
        f'<tr><td class="name">{escape(json.dumps(token["text"], ensure_ascii=False))}</td>'
        + "".join(f"<td>{escape(_number(token[key]))}</td>" for _, key, _ in _COLUMNS)
        + "</tr>"
        for token in tokens
    )
    return (
        f'<div class="scroll"><table class="tokens"><thead><tr><th class="name">token</th>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _settings(generation: Mapping[str, Any]) -> str:
    kept = ("model", "policy", "thresholds", "calibrated_on", "seed", "chat", "machine", "versions")
    return json.dumps({key: generation[key] for key in kept}, indent=2, ensure_ascii=False)


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
