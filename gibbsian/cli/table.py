"""The final table on the terminal or in a pipe."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gibbsian.reports.table import Column


def print_table(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> None:
    """One table where it fits; on a narrow terminal two, what it does above what it costs.

    A pipe has no width of its own: there every row keeps its line.
    """
    console.print(Text(title), style="bold", soft_wrap=True)
    everything = range(len(columns))
    table = _table(columns, rows, everything)
    needed = Console(width=10_000).measure(table).maximum
    if not console.is_terminal:
        Console(file=console.file, width=needed).print(table)
    elif needed <= console.width:
        console.print(table)
    else:
        for costs in (False, True):
            shown = [i for i in everything if i == 0 or columns[i].is_cost == costs]
            console.print(_table(columns, rows, shown))


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], shown: Sequence[int]) -> Table:
    table = Table()
    for i in shown:
        table.add_column(Text(columns[i].title), justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*(Text(row[i]) for i in shown))
    return table
