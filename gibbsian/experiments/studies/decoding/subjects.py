"""What the methods are tried on: tasks with answers, and a novel to go on with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from gibbsian.experiments.studies.decoding.ngrams import KneserNey
from gibbsian.experiments.studies.decoding.novel import Opening
from gibbsian.experiments.studies.decoding.scores import SCALES, distance, scores_of
from gibbsian.experiments.studies.decoding.tasks import Problem, right
from gibbsian.experiments.studies.decoding.writer import Sample, Writer
from gibbsian.sampling.policies import Fixed

Split: TypeAlias = Literal["tuning", "test"]
Scores: TypeAlias = dict[str, float]
"""Of one continuation."""
Continuation: TypeAlias = tuple[str, Sequence[int]]
"""A prompt and tokens behind it."""

_SAMPLED_AT = 0.7
_SEEN = 16
"""Most tokens of an answer that levels are set on; texts are cut to twice as many."""


@runtime_checkable
class Subject(Protocol):
    """Prompts in two splits, and how their continuations are scored."""

    @property
    def name(self) -> str:
        """In results and files."""
        ...

    @property
    def length(self) -> int:
        """Most tokens of a continuation."""
        ...

    @property
    def whole(self) -> bool:
        """Whether every continuation has that length."""
        ...

    @property
    def block(self) -> int:
        """Prompts of the test split that are continued before any others."""
        ...

    def prompts(self, split: Split) -> list[str]:
        """As they go to the model."""
        ...

    def scores(self, split: Split, first: int, samples: Sequence[Sample]) -> list[Scores]:
        """Of one continuation of each prompt from number `first` on."""
        ...

    def quality(self, split: Split, scores: Sequence[Mapping[str, float]]) -> float:
        """What tuning makes largest."""
        ...

    def contexts(self, writer: Writer) -> list[Continuation]:
        """Of the tuning split, where entropies are compared before anything is decoded."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSubject:
    """A task; the quality is the accuracy."""

    name: str
    tuning: Sequence[Problem]
    test: Sequence[Problem]
    chat: Sequence[str]
    """Prompts of the tuning problems, then of the test problems."""
    length: int
    block: int
    whole: bool = False

    def prompts(self, split: Split) -> list[str]:
        """Questions in the model's template."""
        cut = len(self.tuning)
        return list(self.chat[:cut] if split == "tuning" else self.chat[cut:])

    def scores(self, split: Split, first: int, samples: Sequence[Sample]) -> list[Scores]:
        """1 where the last number is the answer."""
        asked = (self.tuning if split == "tuning" else self.test)[first : first + len(samples)]
        return [
            {"accuracy": float(right(problem, sample.text))}
            for problem, sample in zip(asked, samples, strict=True)
        ]

    def quality(self, split: Split, scores: Sequence[Mapping[str, float]]) -> float:
        """Accuracy."""
        del split
        return sum(row["accuracy"] for row in scores) / len(scores)

    def contexts(self, writer: Writer) -> list[Continuation]:
        """Answers drawn at temperature 0.7, their first tokens."""
        asked = self.prompts("tuning")[:24]
        (answers,) = writer.write(asked, Fixed(temperature=_SAMPLED_AT), [0], length=self.length)
        return [
            (prompt, sample.tokens[:_SEEN]) for prompt, sample in zip(asked, answers, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSubject:
    """A novel; the quality is minus the distance from how it goes on."""

    tuning: Sequence[Opening]
    test: Sequence[Opening]
    starts: Sequence[Sequence[int]]
    """Tokens of the prompts, of both splits."""
    human: Sequence[Scores]
    """Scores of the human continuations, of both splits."""
    judge: KneserNey
    length: int
    block: int
    name: str = "text"
    whole: bool = True

    def prompts(self, split: Split) -> list[str]:
        """As they stand."""
        return [opening.prompt for opening in (self.tuning if split == "tuning" else self.test)]

    def _of(self, split: Split) -> slice:
        cut = len(self.tuning)
        return slice(0, cut) if split == "tuning" else slice(cut, None)

    def scores(self, split: Split, first: int, samples: Sequence[Sample]) -> list[Scores]:
        """Repetition, diversity, compression, the second model's loss."""
        starts = self.starts[self._of(split)][first : first + len(samples)]
        return [
            scores_of(start, sample.tokens, sample.text, self.judge)
            for start, sample in zip(starts, samples, strict=True)
        ]

    def references(self, split: Split) -> list[Scores]:
        """Scores of the human continuations."""
        return list(self.human[self._of(split)])

    def quality(self, split: Split, scores: Sequence[Mapping[str, float]]) -> float:
        """Minus the distance."""
        return -distance(_means(scores), _means(self.references(split)))

    def contexts(self, writer: Writer) -> list[Continuation]:
        """Human continuations, their first tokens."""
        del writer
        return [(opening.prompt, opening.human[: 2 * _SEEN]) for opening in self.tuning[:8]]


def _means(scores: Sequence[Mapping[str, float]]) -> Scores:
    return {name: sum(row[name] for row in scores) / len(scores) for name in SCALES}
