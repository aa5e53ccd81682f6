"""`gibbsian compare`."""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gibbsian._errors import ArgumentError
from gibbsian.cli.fresh import fresh_folder
from gibbsian.cli.progress import ProgressBars

RESULTS_PAGE = "report.html"


class Interrupted(Exception):  # noqa: N818  (not an error: the user asked for it)
    """Ctrl-C; the message says how to go on."""


def compare_command(
    *,
    demo: Annotated[
        bool, typer.Option("--demo", help="Small settings that take under four minutes.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for everything written; a new one by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the comparison in --out.")
    ] = False,
    attention: Annotated[
        list[str] | None,
        typer.Option(help="NAME or NAME:PARAMETER=VALUE,...; repeat for several."),
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; repeat for several.")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Text file, UTF-8; repeat for several. Default: embedded novels."),
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="byte, or bpe:SIZE.")] = None,
    model: Annotated[str | None, typer.Option(help="decoder (causal) or encoder (masked).")] = None,
    layers: Annotated[int | None, typer.Option(help="Layers.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the model.")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens in a window.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of each run.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows in a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    probe_every: Annotated[
        int | None, typer.Option(help="Steps between two probes of the attention rows.")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between two checkpoints.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
) -> None:
    """Train the same transformer with each attention on a text, and compare them.

    Ends with a table and one HTML page of curves. Settings that are not given are those of the
    demo, of the resumed comparison, or the defaults.
    """
    given = {
        "attentions": attention,
        "seeds": seed,
        "text": text,
        "tokens": tokens,
        "model": model,
        "layers": layers,
        "width": width,
        "heads": heads,
        "context": context,
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "probe_every": probe_every,
        "checkpoint_every": checkpoint_every,
        "device": device,
    }
    given = {name: value for name, value in given.items() if value is not None}
    _run({k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}, demo, out, resume)


def _run(given: dict[str, Any], demo: bool, out: Path | None, resume: bool) -> None:
    if out is None:
        out = _fresh_folder(resume)
    # under torchrun, the first process speaks for all
    console = Console(quiet=os.environ.get("RANK", "0") != "0")
    try:
        results = _compare(given, demo, out, resume, console)
    except KeyboardInterrupt:
        if not (out / "config.json").exists():
            raise Interrupted("Interrupted before anything was written.") from None
        command = f"gibbsian compare --resume --out {shlex.quote(str(out))}"
        raise Interrupted(f"Interrupted. To go on: {command}") from None
    if results:  # under torchrun, only the first process has them
        _show(results, out, console)


def _compare(
    given: dict[str, Any], demo: bool, out: Path, resume: bool, console: Console
) -> dict[str, Any]:
    # Here, not at the top: transformers takes seconds to import, `--help` should not.
    from gibbsian.experiments import (  # noqa: PLC0415
        CompareConfig,
        compare,
        demo_config,
        stored_config,
    )

    base = stored_config(out) if resume else demo_config() if demo else CompareConfig()
    config = replace(base, **given)
    bars = ProgressBars(console)
    with bars.shown():
        return compare(config, out, observer=bars, resume=resume)


def _fresh_folder(resume: bool) -> Path:
    if resume:
        raise ArgumentError("`--resume` needs the folder to go on with. Add --out FOLDER.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ArgumentError("`--out` must be given when several processes run, got none.")
    return fresh_folder("compare")


def _show(results: dict[str, Any], out: Path, console: Console) -> None:
    # plotly too takes its time
    from gibbsian._files import write_atomic  # noqa: PLC0415
    from gibbsian.cli.table import print_table  # noqa: PLC0415
    from gibbsian.reports import (  # noqa: PLC0415
        COLUMNS,
        comparison_page,
        comparison_title,
        table_rows,
    )

    page = out / RESULTS_PAGE
    write_atomic(page, comparison_page(results))
    print_table(console, comparison_title(results), COLUMNS, table_rows(results))
    for name, path in (("Page", page), ("Results", out / "results.json")):
        console.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)
