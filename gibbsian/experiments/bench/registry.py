"""All cases by name."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from gibbsian._errors import ArgumentError
from gibbsian.experiments.bench.case import Case
from gibbsian.experiments.bench.cases_attention import aes_cases, decoding_cases
from gibbsian.experiments.bench.cases_lln import lln_cases
from gibbsian.experiments.bench.cases_memory import memory_cases
from gibbsian.experiments.bench.cases_models import model_cases
from gibbsian.experiments.bench.cases_rows import entmax_cases, statistics_cases
from gibbsian.experiments.bench.shapes import FULL, QUICK


def all_cases(*, quick: bool) -> dict[str, Case]:
    """Every case by its name, in the order in which they run."""
    return {case.name: case for case in _cases(quick=quick)}


def _cases(*, quick: bool) -> Iterator[Case]:
    shapes = QUICK if quick else FULL
    for family in (
        entmax_cases,
        aes_cases,
        decoding_cases,
        lln_cases,
        statistics_cases,
        memory_cases,
        model_cases,
    ):
        yield from family(shapes)


def select(cases: dict[str, Case], patterns: Sequence[str]) -> list[Case]:
    """The cases whose names match one of the patterns; without a pattern all but the optional.

    Raises:
        ArgumentError: a pattern that matches nothing.
    """
    if not patterns:
        return [case for case in cases.values() if not case.optional]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in cases):
            raise ArgumentError(
                f"`cases` must name cases or match some (*, ?), got {pattern!r}. "
                "`gibbsian bench --list` shows them."
            )
    return [case for name, case in cases.items() if any(fnmatchcase(name, p) for p in patterns)]
