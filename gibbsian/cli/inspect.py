"""`gibbsian inspect`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gibbsian.cli.compare import Interrupted
from gibbsian.cli.fresh import fresh_folder

if TYPE_CHECKING:
    from gibbsian.experiments.inspection import InspectConfig


def inspect_command(
    *,
    model: Annotated[
        str, typer.Argument(help="Name on the Hugging Face hub, folder, or .gguf file.")
    ],
    text: Annotated[
        list[str] | None, typer.Option(help="Text file, UTF-8; repeat for several.")
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(help="Image file; repeat for several.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Read the first so many tokens of each text.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; by default a new one under runs/.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="What AES would do: constant, linear, smooth_step, cosine or response, with "
            "options as NAME:OPTION=VALUE,... (default smooth_step)."
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Folder of an earlier inspection to compare with.")
    ] = None,
    gap_positions: Annotated[
        int | None,
        typer.Option(help="Spectral gaps of the first so many positions (1024); 0 = none."),
    ] = None,
    entropy_threshold: Annotated[
        float | None, typer.Option(help="High next-token entropy, nats; default the median.")
    ] = None,
    varentropy_threshold: Annotated[
        float | None, typer.Option(help="High next-token varentropy; default the median.")
    ] = None,
) -> None:
    """Look inside a transformer: what every row of its attention does on a text or on images.

    Writes a folder with report.html, inspection.json and statistics.parquet.
    """
    given = {
        "texts": text and tuple(text),
        "images": images and tuple(images),
        "tokens": tokens,
        "schedule": schedule,
        "gap_positions": gap_positions,
        "entropy_threshold": entropy_threshold,
        "varentropy_threshold": varentropy_threshold,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        # Here, not at the top: transformers takes seconds to import, `--help` should not.
        from gibbsian.experiments.inspection import InspectConfig  # noqa: PLC0415

        config = InspectConfig(model=model, **options)
        _run(config, output or fresh_folder("inspect"), baseline)
    except KeyboardInterrupt:
        raise Interrupted("Interrupted. Nothing was written.") from None


def _run(config: "InspectConfig", output: Path, baseline: Path | None) -> None:
    from gibbsian._files import write_atomic  # noqa: PLC0415
    from gibbsian.experiments.inspection import (  # noqa: PLC0415
        inspect_model,
        load_inspection,
        whole_folder,
    )
    from gibbsian.experiments.inspection.folder import REPORT  # noqa: PLC0415
    from gibbsian.reports.inspection import inspection_page  # noqa: PLC0415
    from gibbsian.reports.inspection.schema import check_inspection  # noqa: PLC0415

    earlier = None if baseline is None else load_inspection(baseline)
    if earlier is not None:  # now, not after minutes of work
        check_inspection(earlier, "baseline")
    bar = LayerBar(Console(stderr=True))
    with whole_folder(output) as folder, bar.progress:
        inspection = inspect_model(config, folder, command=_command(config, baseline), observer=bar)
        bar.on_step("report")
        write_atomic(folder / REPORT, inspection_page(inspection, earlier))
    _show(inspection, earlier, output / REPORT)


class LayerBar:
    """One bar over the layers of all inputs, on stderr; or a line an input in a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._name: str | None = None
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self.progress.add_task("", total=None, doing="")

    def on_layer(self, name: str, done: int, total: int) -> None:
        """Advance to a layer."""
        self.progress.update(
            self._task, description=name, completed=done, total=total, doing="layers"
        )
        if not self._console.is_terminal and name != self._name:
            self._console.print(f"{name}: {total} layers", markup=False, highlight=False)
        self._name = name

    def on_step(self, text: str) -> None:
        """Say what is being done."""
        self.progress.update(self._task, doing=text)


def _command(config: "InspectConfig", baseline: Path | None) -> str:
    words = ["gibbsian", "inspect", config.model]
    for path in config.texts:
        words += ["--text", path]
    for path in config.images:
        words += ["--images", path]
    if config.tokens is not None:
        words += ["--tokens", str(config.tokens)]
    words += ["--schedule", config.schedule, "--gap-positions", str(config.gap_positions)]
    for name in ("entropy", "varentropy"):
        if (level := getattr(config, f"{name}_threshold")) is not None:
            words += [f"--{name}-threshold", f"{level:g}"]
    if baseline is not None:
        words += ["--baseline", str(baseline)]
    return shlex.join(words)


def _show(inspection: dict[str, Any], baseline: dict[str, Any] | None, report: Path) -> None:
    from gibbsian.cli.inspection_table import print_inspection  # noqa: PLC0415

    console = Console()
    print_inspection(console, inspection, baseline)
    for name, path in (("Report", report), ("Folder", report.parent)):
        console.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)
