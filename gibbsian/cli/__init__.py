"""The command line: `gibbsian`."""

from gibbsian.cli.main import main as main

__all__ = ["main"]
