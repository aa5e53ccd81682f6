"""What a claim is, and what comes of measuring it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, TypeAlias

from gibbsian.experiments.claims.intervals import Estimate
from gibbsian.experiments.claims.picture import Picture

Size: TypeAlias = Literal["quick", "full"]
"""How much is measured: seconds, or minutes."""

Verdict: TypeAlias = Literal["holds", "holds with a correction", "does not hold", "undecided"]

Numbers: TypeAlias = Mapping[str, Estimate]
"""Everything that was measured, by name."""

Judgement: TypeAlias = tuple[Verdict, str]
"""The verdict, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a measurement found."""

    numbers: Numbers
    """Empty if nothing could be measured."""
    scale: str
    """Sizes, models and texts, for a reader who compares with the source's."""
    pictures: tuple[Picture, ...] = ()
    """What is drawn."""
    missing: str = ""
    """What could not be measured here, and what is needed for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimResult:
    """A claim, settled or not."""

    id: str
    claim: str
    source: str
    how: str
    rule: str
    paper: str
    scale: str
    missing: str
    measurement: dict[str, Estimate]
    verdict: Verdict
    why: str
    pictures: tuple[Picture, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file of results."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An assertion of a source, how it is measured, and the rule that settles it.

    The rule is a function of the measured numbers alone.
    """

    id: str
    """Short, unique."""
    statement: str
    """What the source asserts."""
    source: str
    """Where."""
    how: str
    """How it is measured."""
    rule: str
    """What makes the verdict, in words."""
    paper: str
    """The source's own number or shape of curve."""
    measure: Callable[[Size, int], Measured]
    """Size and seed to numbers."""
    judge: Callable[[Numbers], Judgement]
    """Numbers to verdict; never called without numbers."""

    def run(self, size: Size, seed: int) -> ClaimResult:
        """Measure, then judge; "undecided" without numbers, or with one that is not finite."""
        measured = self.measure(size, seed)
        verdict: Verdict = "undecided"
        broken = [name for name, e in measured.numbers.items() if not isfinite(e.low + e.high)]
        if not measured.numbers:
            why = f"Nothing was measured: {measured.missing}."
        elif broken:
            # a comparison with NaN is false, and a rule might take that for a yes
            why = f"Not a finite number: {', '.join(broken)}."
        else:
            verdict, why = self.judge(measured.numbers)
        return ClaimResult(
            id=self.id,
            claim=self.statement,
            source=self.source,
            how=self.how,
            rule=self.rule,
            paper=self.paper,
            scale=measured.scale,
            missing=measured.missing,
            measurement=dict(measured.numbers),
            verdict=verdict,
            why=why,
            pictures=measured.pictures,
        )
