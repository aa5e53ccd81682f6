"""`gibbsian bench`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gibbsian.cli.compare import Interrupted
from gibbsian.cli.fresh import fresh_results

if TYPE_CHECKING:
    from gibbsian.experiments.bench import BenchConfig


def bench_command(
    *,
    cases: Annotated[
        list[str] | None,
        typer.Argument(help="Names, or patterns with * and ?. Default: all but the optional."),
    ] = None,
    list_cases: Annotated[
        bool, typer.Option("--list", help="Print the names of the cases, and run nothing.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Results, JSON; by default a new file under runs/.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what --output holds and run the rest.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: seconds; says nothing about speed.")
    ] = False,
    repeats: Annotated[int | None, typer.Option(help="Rounds of a case, at most.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="Seconds for the rounds of a case, at most.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads (default 2).")] = None,
) -> None:
    """Measure speed and memory beside other implementations, on the same tensors.

    Each result is compared with float64 first; one that is wrong gets no speed, and exit code 1.
    """
    given = {"repeats": repeats, "budget": budget, "threads": threads}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    # Here, not at the top: transformers takes seconds to import, `--help` should not.
    from gibbsian.experiments.bench import (  # noqa: PLC0415
        BenchConfig,
        all_cases,
        is_red,
        select,
    )

    if list_cases:
        _print_cases(select(all_cases(quick=quick), cases or ["*"]))
        return
    config = BenchConfig(quick=quick, **options)
    if output is None:
        output = fresh_results("bench", resume=resume)
    results = _run(config, cases or [], output, resume)
    _show(results, output)
    if is_red(results):
        raise typer.Exit(1)


def _run(config: "BenchConfig", cases: list[str], output: Path, resume: bool) -> dict[str, Any]:
    from gibbsian.experiments.bench import run_benchmark  # noqa: PLC0415

    existed = output.exists()
    bar = CaseBar(Console(stderr=True))
    try:
        with bar.progress:
            return run_benchmark(config, cases, output, observer=bar, resume=resume)
    except KeyboardInterrupt:
        if not output.exists() or (existed and not resume):
            raise Interrupted("Interrupted before anything was written.") from None
        words = ["gibbsian", "bench", *cases, "--resume", "--output", str(output)]
        words += ["--quick"] if config.quick else []
        words += [f"--repeats={config.repeats}", f"--budget={config.budget:g}"]
        words += [f"--threads={config.threads}"]
        raise Interrupted(f"Interrupted. To go on: {shlex.join(words)}") from None


class CaseBar:
    """One bar over the cases, on stderr; a line a case where that is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self.progress.add_task("", total=None, doing="")

    def on_case(self, name: str, index: int, total: int) -> None:
        """Advance to a case."""
        self.progress.update(self._task, description=name, total=total, completed=index, doing="")
        if not self._console.is_terminal:
            self._console.print(f"[{index + 1}/{total}] {name}", markup=False, highlight=False)

    def on_step(self, text: str) -> None:
        """Say what the case is doing."""
        self.progress.update(self._task, doing=text)


def _print_cases(cases: list[Any]) -> None:
    console = Console()
    for case in cases:
        mark = " (only where named)" if case.optional else ""
        console.print(
            f"{case.name}: {case.group}{mark}", markup=False, highlight=False, soft_wrap=True
        )


def _show(results: dict[str, Any], output: Path) -> None:
    from gibbsian.cli.table import print_table  # noqa: PLC0415
    from gibbsian.reports.bench import (  # noqa: PLC0415
        BENCH_COLUMNS,
        bench_rows,
        bench_title,
    )

    console = Console()
    print_table(console, bench_title(results), BENCH_COLUMNS, bench_rows(results))
    console.print(f"Results: {output}", markup=False, highlight=False, soft_wrap=True)
