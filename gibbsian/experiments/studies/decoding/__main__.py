"""Command line of the study."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gibbsian._errors import GibbsianError
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.experiments.studies.decoding.cells import Cells
from gibbsian.experiments.studies.decoding.ngrams import KneserNey
from gibbsian.experiments.studies.decoding.novel import openings, paragraphs
from gibbsian.experiments.studies.decoding.run import Plan, run
from gibbsian.experiments.studies.decoding.scores import scores_of
from gibbsian.experiments.studies.decoding.subjects import Subject, TaskSubject, TextSubject
from gibbsian.experiments.studies.decoding.tasks import TASKS, Task, problems
from gibbsian.experiments.studies.decoding.writer import Writer

NAME = "decoding"
TEXT = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is decoded."""

    tuning: int
    """Problems of a task on the tuning split."""
    test: int
    """On the test split."""
    answer: int
    """Most tokens of an answer."""
    text_tuning: int
    """Prompts of the novel on the tuning split."""
    text_test: int
    """On the test split."""
    continuation: int
    """Tokens of a continuation."""
    seeds: int
    """Continuations of each prompt of the test split."""
    blocks: int
    """Parts of the test split."""


FULL = Size(
    tuning=48,
    test=128,
    answer=24,
    text_tuning=24,
    text_test=48,
    continuation=96,
    seeds=3,
    blocks=4,
)
QUICK = Size(
    tuning=10,
    test=4,
    answer=12,
    text_tuning=4,
    text_test=4,
    continuation=28,
    seeds=2,
    blocks=2,
)


def task_subject(writer: Writer, task: Task, size: Size) -> TaskSubject:
    """A task's problems as prompts."""
    tuning, test = problems(task, size.tuning, size.test)
    return TaskSubject(
        name=task.name,
        tuning=tuning,
        test=test,
        chat=[writer.chat(problem.question) for problem in (*tuning, *test)],
        length=size.answer,
    )


def text_subject(writer: Writer, size: Size) -> TextSubject:
    """The novel's prompts, and the second model."""
    length = size.continuation
    tuning, test = openings(writer.tokenizer, size.text_tuning, size.text_test, length)
    judge = KneserNey(paragraphs(writer.tokenizer), vocabulary=writer.vocabulary)
    both = [*tuning, *test]
    starts = [
        writer.tokenizer(opening.prompt, add_special_tokens=False)["input_ids"] for opening in both
    ]
    human = [
        scores_of(start, opening.human, writer.tokenizer.decode(opening.human), judge)
        for start, opening in zip(starts, both, strict=True)
    ]
    return TextSubject(
        tuning=tuning, test=test, starts=starts, human=human, judge=judge, length=length
    )


def subjects_of(writer: Writer, names: Sequence[str], size: Size) -> list[Subject]:
    """Those named, in their own order."""
    found: list[Subject] = [
        task_subject(writer, task, size) for task in TASKS if task.name in names
    ]
    return [*found, text_subject(writer, size)] if TEXT in names else found


def study(options: argparse.Namespace) -> None:
    """Decode what is missing, then write `decoding.json`."""
    size = QUICK if options.quick else FULL
    writer = Writer(options.model or smollm2_folder())
    settings: dict[str, Any] = {
        "size": str(size),
        "model": options.model or "SmolLM2-135M-Instruct",
    }
    cells = Cells(Path(options.out) / f"{NAME}-cells", settings)
    subjects = subjects_of(writer, options.subjects, size)
    run(cells, writer, subjects, Plan(seeds=size.seeds, blocks=size.blocks))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog=NAME, description="Entropy-driven decoding, claim S4.")
    parser.add_argument("--out", default="results", help="folder of the result")
    parser.add_argument("--model", help="folder or hub name; default: SmolLM2-135M-Instruct")
    parser.add_argument("--quick", action="store_true", help="few prompts, one seed")
    everything = [*(task.name for task in TASKS), TEXT]
    parser.add_argument("--subjects", nargs="*", choices=everything, default=everything)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        study(options)
    except GibbsianError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
