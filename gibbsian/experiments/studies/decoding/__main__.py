"""Command line of the study."""

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gibbsian._errors import GibbsianError
from gibbsian._files import write_atomic
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.experiments.studies.decoding.cells import Cells
from gibbsian.experiments.studies.decoding.ngrams import KneserNey
from gibbsian.experiments.studies.decoding.novel import openings, paragraphs
from gibbsian.experiments.studies.decoding.run import Plan, run
from gibbsian.experiments.studies.decoding.scores import scores_of
from gibbsian.experiments.studies.decoding.subjects import Subject, TaskSubject, TextSubject
from gibbsian.experiments.studies.decoding.summary import summary
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
    block: int
    """Problems of the test split that are decoded before any others."""
    text_block: int
    """The same of the novel's prompts."""


FULL = Size(
    tuning=32,
    test=64,
    answer=24,
    text_tuning=16,
    text_test=32,
    continuation=64,
    seeds=3,
    block=32,
    text_block=16,
)
QUICK = Size(
    tuning=12,
    test=4,
    answer=12,
    text_tuning=4,
    text_test=4,
    continuation=28,
    seeds=2,
    block=2,
    text_block=2,
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
        block=size.block,
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
        tuning=tuning,
        test=test,
        starts=starts,
        human=human,
        judge=judge,
        length=length,
        block=size.text_block,
    )


def subjects_of(writer: Writer, names: Sequence[str], size: Size) -> list[Subject]:
    """Those named, in their own order."""
    found: list[Subject] = [
        task_subject(writer, task, size) for task in TASKS if task.name in names
    ]
    return [*found, text_subject(writer, size)] if TEXT in names else found


def study(options: argparse.Namespace) -> None:
    """Decode what is missing; with all subjects write the result."""
    size = QUICK if options.quick else FULL
    model = options.model or "SmolLM2-135M-Instruct"
    writer = Writer(options.model or smollm2_folder())
    out = Path(options.out)
    name = f"{NAME}-quick" if options.quick else NAME  # which settles no claim
    cells = Cells(out / f"{name}-cells", {"size": str(size), "model": model})
    subjects = subjects_of(writer, options.subjects, size)
    if not options.summarise:
        run(
            cells,
            writer,
            subjects,
            Plan(seeds=size.seeds, backwards=options.backwards),
        )
    if len(subjects) <= len(TASKS):
        return
    found = summary(cells, subjects)
    examples, prompts = found.pop("examples"), found.pop("prompts")
    for subject in subjects:
        if isinstance(subject, TextSubject) and subject.name in found["subjects"]:
            human = found["subjects"][subject.name]["human"]
            human["surprisal"] = round(human_surprisal(writer, subject), 5)
    quick = " --quick" if options.quick else ""
    content = {
        "command": f"python -m gibbsian.experiments.studies.decoding --out {options.out}{quick}",
        "model": f"{model}, weights of 4 bits, in bfloat16 with a head in float32",
        "size": asdict(size),
        "machine": describe_machine(torch.device("cpu")),
        "versions": describe_versions(),
        **found,
    }
    write_json(out / f"{name}.json", content)
    write_atomic(out / f"{name}-examples.csv", as_csv(examples))
    write_atomic(out / f"{name}-prompts.csv", as_csv(prompts))
    sys.stderr.write(f"{out / name}.json\n")


def human_surprisal(writer: Writer, subject: TextSubject) -> float:
    """Mean surprisal of the human continuations of the test split under the model, nats."""
    total, number = 0.0, 0
    for opening in subject.test:
        logits = writer.expected(opening.prompt, opening.human)
        taken = logits.log_softmax(dim=-1).gather(1, torch.tensor(opening.human)[:, None])
        total, number = total - float(taken.sum()), number + len(opening.human)
    return total / number


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table with the columns of all of them."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog=NAME, description="Entropy-driven decoding, claim S4.")
    parser.add_argument("--out", default="results", help="folder of the result")
    parser.add_argument("--model", help="folder or hub name; default: SmolLM2-135M-Instruct")
    parser.add_argument("--quick", action="store_true", help="few prompts, two seeds")
    parser.add_argument(
        "--summarise", action="store_true", help="decode nothing: the result of what is there"
    )
    parser.add_argument(
        "--backwards", action="store_true", help="from the last method on: a second run beside one"
    )
    everything = [*(task.name for task in TASKS), TEXT]
    parser.add_argument(
        "--subjects",
        nargs="*",
        choices=everything,
        default=everything,
        help="decode these alone, and write no result",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        study(options)
    except GibbsianError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
