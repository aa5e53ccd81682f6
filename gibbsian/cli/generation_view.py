"""A text while it is written: coloured by quadrant, with the newest token's numbers beside it."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gibbsian.reports.generation import QUADRANT_NAMES

_COLOURS = {"exploring": "blue", "treading": "yellow", "mist": "red"}
_PANEL = 30
_RECENT = 12
_BLOCKS = "▁▂▃▄▅▆▇█"


def token_text(token: dict[str, Any]) -> Text:
    """A token's text in the colour of its quadrant; underlined where more than a draw was done."""
    style = _COLOURS.get(token["quadrant"] or "", "")
    if token["action"] in {"insert", "branch", "resample"}:
        style = f"{style} underline".strip()
    return Text(_shown(token["text"]), style=style)


def whole_text(tokens: list[dict[str, Any]]) -> Text:
    """All tokens."""
    return Text().join([token_text(token) for token in tokens])


def _shown(text: str) -> str:
    """Without what would steer the terminal."""
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


class LiveView:
    """The end of the text, as much as fits, and the panel."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._tokens: list[dict[str, Any]] = []

    def on_token(self, token: dict[str, Any]) -> None:
        """Add a token."""
        self._tokens.append(token)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | Table]:
        width = options.max_width - _PANEL - 1
        if width < _PANEL:  # too narrow for two columns
            yield from self._tail(console, options.max_width)
            return
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=width)
        grid.add_column(width=_PANEL)
        grid.add_row(Group(*self._tail(console, width)), self._panel())
        yield grid

    def _tail(self, console: Console, width: int) -> list[Text]:
        # what scrolled away is not laid out again at every frame
        recent = whole_text(self._tokens[-(width * console.height) // 2 :])
        return list(recent.wrap(console, width))[-max(console.height - 2, 4) :]

    def _panel(self) -> Panel:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim")
        table.add_column(justify="right")
        if self._tokens:
            last = self._tokens[-1]
            for name, key in (("S", "entropy"), ("V", "varentropy"), ("T", "temperature")):
                table.add_row(name, _number(last[key]))
            if last["zeta"]:
                table.add_row("zeta", _number(last["zeta"]))
            table.add_row("kept", str(last["kept"]))
            quadrant = last["quadrant"] or ""
            table.add_row("now", Text(quadrant, style=_COLOURS.get(quadrant, "")))
            table.add_row("does", last["action"])
            recent = self._tokens[-_RECENT:]
            table.add_row("S so far", _course([t["entropy"] for t in recent]))
            table.add_row("V so far", _course([t["varentropy"] for t in recent]))
        counts = Counter(token["quadrant"] for token in self._tokens)
        for name in QUADRANT_NAMES:
            table.add_row(Text(name, style=_COLOURS.get(name, "")), str(counts[name]))
        return Panel(table, title=self._title, width=_PANEL)


def _course(values: list[float | None]) -> str:
    top = max([v for v in values if v is not None], default=0.0) or 1.0
    last = len(_BLOCKS) - 1
    return "".join(
        " " if v is None else _BLOCKS[min(last, int(v / top * last + 0.5))] for v in values
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
