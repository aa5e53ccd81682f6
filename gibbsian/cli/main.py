"""The `gibbsian` command: its subcommands, and how errors leave it."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from gibbsian import __version__
from gibbsian._errors import GibbsianError
from gibbsian.cli.bench import bench_command
from gibbsian.cli.claims import claims_command
from gibbsian.cli.compare import Interrupted, compare_command
from gibbsian.cli.generate import generate_command
from gibbsian.cli.inspect import inspect_command
from gibbsian.cli.serve import serve_command
from gibbsian.cli.warm_up import warm_up_command

app = typer.Typer(
    name="gibbsian",
    help="Entropy-driven attention and sampling.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("compare")(compare_command)
app.command("bench")(bench_command)
app.command("generate")(generate_command)
app.command("serve")(serve_command)
app.command("inspect")(inspect_command)
app.command("claims")(claims_command)
app.command("warm-up")(warm_up_command)


def _print_version(wanted: bool) -> bool:
    if wanted:
        Console().print(f"gibbsian {__version__}", highlight=False)
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; errors made on purpose become one line on stderr and exit code 2."""
    try:
        app()
    except Interrupted as stop:
        Console(stderr=True).print(str(stop), highlight=False, soft_wrap=True)
        sys.exit(130)
    except KeyboardInterrupt:  # before a command took over
        Console(stderr=True).print("Interrupted. Nothing was written.", highlight=False)
        sys.exit(130)
    except GibbsianError as error:
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True
        )
        sys.exit(2)
