"""`gibbsian generate`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from gibbsian.cli.compare import Interrupted

if TYPE_CHECKING:
    from gibbsian.experiments.generation import Writer
    from gibbsian.sampling import Calibration


def generate_command(
    *,
    model: Annotated[
        str, typer.Argument(help="Name on the Hugging Face hub, folder, or .gguf file.")
    ],
    prompt: Annotated[str | None, typer.Option(help="What to go on from.")] = None,
    policy: Annotated[
        str,
        typer.Option(
            help="fixed, edt, dynatemp, mirostat, quadrant, adaptive, aes or free-energy, with "
            "options as NAME:OPTION=VALUE,..."
        ),
    ] = "quadrant",
    seed: Annotated[int | None, typer.Option(help="Of the draws; by default a fresh one.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Generate at most so many.")] = 256,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="Put the prompt into the model's chat template, or go on from it as it is; by "
            "default the former if there is one.",
            show_default=False,
        ),
    ] = None,
    insert: Annotated[
        str | None, typer.Option(help="One token that the policy quadrant inserts to think.")
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Tell the policy about the model's attention.")
    ] = False,
    calibrate: Annotated[
        str | None, typer.Option(help="Calibrate thresholds on this text file first.")
    ] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="Calibration file; by default the one beside the model.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with every token.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page of the text here.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write the tokens here, one JSON object a line.")
    ] = None,
) -> None:
    """Write a text with an entropy-driven policy, and show what happens at every token.

    The text goes to stdout, all else to stderr.
    """
    # Here, not at the top: torch and transformers take seconds to import, `--help` should not.
    from gibbsian._errors import DataError  # noqa: PLC0415
    from gibbsian.experiments.generation import GenerateConfig, Writer  # noqa: PLC0415

    config = GenerateConfig(
        model=model,
        prompt=prompt,
        policy=policy,
        seed=seed,
        max_tokens=max_tokens,
        chat=chat,
        insert=insert,
        attention=attention,
        thresholds=thresholds,
        calibrate=calibrate,
    )
    for name, path in (("html", html), ("trace", trace)):
        if path is not None and not path.parent.is_dir():
            raise DataError(
                f"`--{name}` must be in a folder that exists, got {path}. Make {path.parent}."
            )
    try:
        writer = Writer(config)
    except KeyboardInterrupt:
        raise Interrupted("Interrupted. Nothing was written.") from None
    notes = Console(stderr=True)
    if calibrate is not None:
        _note(notes, f"Thresholds: {writer.path}")
    if prompt is None:
        return
    saved = html is not None or trace is not None
    generation = _written(writer, as_json=as_json, saved=saved, title=policy.partition(":")[0])
    _save(generation, html, trace)
    _summarise(notes, generation, writer.calibration)
    if generation["stopped"] == "interrupted":
        raise Interrupted("Interrupted. The text so far is above.")


def _written(writer: "Writer", *, as_json: bool, saved: bool, title: str) -> dict[str, Any]:
    import json  # noqa: PLC0415

    console = Console()
    if as_json:
        generation = writer.write(_Silent())
        _tell(json.dumps(generation, ensure_ascii=False) + "\n", saved=saved)
    elif console.is_terminal:
        from gibbsian.cli.generation_view import LiveView, whole_text  # noqa: PLC0415

        view = LiveView(title)
        with Live(view, console=console, transient=True, refresh_per_second=12):
            generation = writer.write(view)
        console.print(whole_text(generation["tokens"]), soft_wrap=True)
    else:
        generation = writer.write(_Plain(saved=saved))
        _tell(generation["rest"] + "\n", saved=saved)
    return generation


class _Silent:
    def on_token(self, token: dict[str, Any]) -> None:
        """Nothing is shown."""


class _Plain:
    def __init__(self, *, saved: bool) -> None:
        self._saved = saved

    def on_token(self, token: dict[str, Any]) -> None:
        """The text as it comes."""
        _tell(token["text"], saved=self._saved)


def _tell(text: str, *, saved: bool) -> None:
    """To stdout, at once; it may have no such letters, and who reads it may have gone.

    Then the command ends, unless the text is saved.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python writes what is left when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not saved:
            raise typer.Exit from None


def _save(generation: dict[str, Any], html: Path | None, trace: Path | None) -> None:
    from gibbsian._errors import DataError  # noqa: PLC0415
    from gibbsian._files import write_atomic  # noqa: PLC0415
    from gibbsian.reports.generation import generation_page  # noqa: PLC0415
    from gibbsian.sampling import TokenRecord, write_jsonl  # noqa: PLC0415

    path = html
    try:
        if html is not None:
            write_atomic(html, generation_page(generation))
        if trace is not None:
            path = trace
            names = TokenRecord.__dataclass_fields__
            write_jsonl(
                [TokenRecord(**{n: t[n] for n in names}) for t in generation["tokens"]], trace
            )
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from None


def _summarise(
    console: Console, generation: dict[str, Any], calibration: "Calibration | None"
) -> None:
    tokens, seconds = len(generation["tokens"]), generation["seconds"]
    _note(
        console,
        f"{tokens} tokens in {seconds:.1f} s, policy {generation['policy']['name']}, seed "
        f"{generation['seed']}",
    )
    if calibration is None:
        _note(
            console,
            "Quadrants by the package's thresholds; --calibrate FILE makes this model's own.",
        )
    # by name: the same model may lie in another folder now
    elif Path(calibration.model).resolve().name != Path(generation["model"]).resolve().name:
        _note(
            console,
            f"Quadrants by thresholds of another model, {calibration.model}; --calibrate FILE "
            "makes this model's own.",
        )


def _note(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True, style="dim")
