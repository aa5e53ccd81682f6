"""Progress of a comparison on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class ProgressBars:
    """Two bars with their remaining time, for the grid and for the run; lines in a plain pipe.

    The grid's bar counts steps of all runs, so that its estimate is right from the first run on
    (as far as the attentions take the same time).
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._grid: TaskID | None = None
        self._run: TaskID | None = None
        self._name = ""
        self._before = 0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the bars for as long as the context lasts."""
        with self._progress:
            yield

    def on_run(self, name: str, index: int, total: int, first_step: int, last_step: int) -> None:
        """Start the run's bar; advance the grid's to where the run starts."""
        if self._grid is None:
            self._grid = self._progress.add_task(
                "all runs", total=total * last_step, loss="", completed=0
            )
        if self._run is not None:
            self._progress.remove_task(self._run)
        self._name, self._before = name, index * last_step
        self._run = self._progress.add_task(name, total=last_step, completed=first_step, loss="")
        self._progress.update(self._grid, completed=self._before + first_step)
        if not self._console.is_terminal:
            note = f", from step {first_step}" if first_step else ""
            self._console.print(
                f"[{index + 1}/{total}] {name}{note}", markup=False, highlight=False
            )

    def on_step(self, step: int, loss: float) -> None:
        """Advance both bars."""
        if self._run is None or self._grid is None:
            return
        self._progress.update(self._run, completed=step, loss=f"loss {loss:.3f}")
        self._progress.update(self._grid, completed=self._before + step)
