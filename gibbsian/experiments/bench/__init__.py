"""Speed and memory beside other implementations: cases, their checks, and what runs them."""

from gibbsian.experiments.bench.registry import all_cases as all_cases
from gibbsian.experiments.bench.registry import select as select
from gibbsian.experiments.bench.run import BenchConfig as BenchConfig
from gibbsian.experiments.bench.run import BenchObserver as BenchObserver
from gibbsian.experiments.bench.run import is_red as is_red
from gibbsian.experiments.bench.run import run_benchmark as run_benchmark

__all__ = ["BenchConfig", "BenchObserver", "all_cases", "is_red", "run_benchmark", "select"]
