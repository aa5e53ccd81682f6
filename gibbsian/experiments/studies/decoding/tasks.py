"""Problems whose answers can be checked, from reasoning-gym."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gibbsian._errors import DataError

_NUMBER = re.compile(r"-?\d+")
_TRIED = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A question with one right answer."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A kind of problem, at a difficulty where the model is neither at 0 nor at 1."""

    name: str
    """In results and tables."""
    generator: str
    """Of reasoning-gym."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the generator."""
    suffix: str = ""
    """Added to the question."""


TASKS: tuple[Task, ...] = (
    Task(
        name="sums",
        generator="chain_sum",
        options={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    ),
    Task(
        name="letters",
        generator="letter_counting",
        options={"min_words": 1, "max_words": 1},
        suffix=" Reply with the number.",
    ),
)


def right(problem: Problem, text: str) -> bool:
    """Whether the last integer of a text is the answer."""
    found = _NUMBER.findall(text)
    return bool(found) and int(found[-1]) == int(problem.answer)


def problems(task: Task, tuning: int, test: int) -> tuple[list[Problem], list[Problem]]:
    """Two splits that share no question.

    Raises:
        DataError: reasoning-gym is not installed, or has too few different problems.
    """
    try:
        create: Callable[..., Any] = importlib.import_module("reasoning_gym").create_dataset
    except ImportError:
        raise DataError(
            "the tasks come from reasoning-gym: `pip install reasoning-gym==0.1.25`."
        ) from None
    found: dict[str, Problem] = {}
    for item in create(task.generator, size=_TRIED, seed=0, **task.options):
        question = item["question"] + task.suffix
        found.setdefault(question, Problem(question=question, answer=item["answer"]))
        if len(found) == tuning + test:
            several = list(found.values())
            return several[:tuning], several[tuning:]
    raise DataError(
        f"`--tuning` + `--test` must be at most {len(found)} for the task {task.name!r}, got "
        f"{tuning} + {test}. Take fewer."
    )
