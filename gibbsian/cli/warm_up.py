"""`gibbsian warm-up`: compile the CPU kernels before they are needed."""

from itertools import chain

from rich.console import Console

from gibbsian.attention.warm_up import warm_up
from gibbsian.sampling.warm_up import warm_up as warm_up_sampling


def warm_up_command() -> None:
    """Compile all CPU kernels now, once: a program's first call then takes no longer than others.

    The machine code is kept beside the package, or in the user's cache folder if that is not
    writable (numba's rules: NUMBA_CACHE_DIR sets another one).
    """
    console = Console()
    total = 0.0
    with console.status("compiling"):
        for name, seconds in chain(warm_up(), warm_up_sampling()):
            total += seconds
            console.print(f"{name:<20}{seconds:6.1f} s", highlight=False)
    console.print(f"{'all':<20}{total:6.1f} s", highlight=False)
