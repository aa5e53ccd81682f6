import io

from rich.console import Console

from gibbsian.cli.progress import ProgressBars
from gibbsian.cli.table import print_table
from gibbsian.reports import COLUMNS

ROWS = [["softmax", *(str(i) * 6 for i in range(1, len(COLUMNS)))]]


def printed(width, *, terminal):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    print_table(console, "a title " * 30, COLUMNS, ROWS)
    return file.getvalue().splitlines()


def test_a_wide_terminal_has_one_table():
    lines = printed(200, terminal=True)
    assert sum("softmax" in line for line in lines) == 1


def test_a_narrow_terminal_has_two_and_loses_nothing():
    lines = printed(80, terminal=True)
    rows = [line for line in lines if "softmax" in line]
    assert len(rows) == 2
    assert all(cell in " ".join(rows) for cell in ROWS[0])
    assert all(len(line) <= 80 for line in lines[1:])


def test_a_pipe_keeps_every_row_on_its_line():
    lines = printed(80, terminal=False)
    rows = [line for line in lines if "softmax" in line]
    assert len(rows) == 1
    assert all(cell in rows[0] for cell in ROWS[0])


def test_progress_in_a_pipe_is_a_line_a_run():
    file = io.StringIO()
    bars = ProgressBars(Console(file=file, width=80))
    with bars.shown():
        bars.on_run("softmax-seed0", 0, 2, 0, 5)
        bars.on_step(1, 2.0)
        bars.on_run("aes-seed0", 1, 2, 3, 5)
    assert file.getvalue() == "[1/2] softmax-seed0\n[2/2] aes-seed0, from step 3\n"


def test_progress_on_a_terminal_counts_the_whole_grid():
    file = io.StringIO()
    bars = ProgressBars(Console(file=file, width=120, force_terminal=True, color_system=None))
    with bars.shown():
        bars.on_run("softmax-seed0", 0, 2, 0, 5)
        bars.on_run("aes-seed0", 1, 2, 3, 5)
        bars.on_step(4, 2.125)
    last = file.getvalue()
    assert "9/10" in last
    assert "4/5" in last
    assert "loss 2.125" in last
