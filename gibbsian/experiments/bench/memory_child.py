"""Entry point of the process in which memory is measured; prints one line of JSON."""

import json
import sys

import torch

from gibbsian.experiments.bench.memory import limit_memory, measure_here
from gibbsian.experiments.bench.registry import all_cases


def main(case_name: str, contender_name: str, threads: str) -> None:
    """Measure one contender of one case.

    Args:
        case_name: one of the registry's.
        contender_name: one of the case's.
        threads: of torch.
    """
    torch.set_num_threads(int(threads))
    limit_memory()
    case = all_cases(quick=False)[case_name]
    try:
        found = measure_here(case, case.contender(contender_name))
    except (ArithmeticError, MemoryError, RuntimeError) as error:
        found = {"status": "failed", "detail": str(error).splitlines()[0][:300]}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
