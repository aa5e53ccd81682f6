"""`gibbsian claims`."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gibbsian.cli.compare import Interrupted
from gibbsian.cli.fresh import fresh_results


def claims_command(
    *,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Claims; all by default.")
    ] = None,
    list_claims: Annotated[
        bool, typer.Option("--list", help="Print ids and statements, and measure nothing.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Full sizes: about 75 minutes instead of five.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Results, JSON; by default a new file under runs/. Other claims stay."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave alone the claims that --output holds.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The first of the seeds.", min=0)] = 0,
) -> None:
    """Settle the theoretical claims of the sources by measurement."""
    # Here, not at the top: transformers takes seconds to import, `--help` should not.
    from gibbsian.experiments.claims import all_claims, run_claims, select  # noqa: PLC0415

    chosen = select(all_claims(), ids or [])
    if list_claims:
        for claim in chosen:
            Console().print(
                f"{claim.id}: {claim.statement} ({claim.source})",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        return
    if output is None:
        output = fresh_results("claims", resume=resume)
    bar = _ClaimsBar(Console(stderr=True))
    try:
        with bar.progress:
            results = run_claims(
                ids or [],
                output,
                size="full" if full else "quick",
                seed=seed,
                resume=resume,
                observer=bar,
            )
    except KeyboardInterrupt:
        words = ["gibbsian", "claims", *(ids or []), "--resume", "--output", str(output)]
        words += ["--full"] if full else []
        words += [f"--seed={seed}"]
        raise Interrupted(f"Interrupted. To go on: {shlex.join(words)}") from None
    _show(results, [claim.id for claim in chosen], output)


class _ClaimsBar:
    """One bar over the claims, on stderr; a line a claim where that is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self.progress.add_task("", total=None)
        self._claim, self._at = "", 0

    def on_claim(self, name: str, index: int, total: int) -> None:
        """Advance to a claim."""
        self.progress.update(self._task, description=name, total=total, completed=index)
        if not self._console.is_terminal:
            self._console.print(f"[{index + 1}/{total}] {name}", markup=False, highlight=False)
        self._claim, self._at = name, index

    def on_part(self, done: int, total: int) -> None:
        """Advance within a claim."""
        self.progress.update(
            self._task,
            description=f"{self._claim} {done}/{total}",
            completed=self._at + done / total,
        )


def _show(results: dict[str, Any], ids: list[str], output: Path) -> None:
    console = Console()
    for name in ids:
        claim = results["claims"][name]
        console.print(
            f"{name}: {claim['verdict'].upper()}. {claim['claim']}",
            style="bold",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        console.print(f"    {claim['why']}", markup=False, highlight=False, soft_wrap=True)
        if claim["missing"]:
            console.print(
                f"    Not measured: {claim['missing']}.",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    console.print(f"Results: {output}", markup=False, highlight=False, soft_wrap=True)
