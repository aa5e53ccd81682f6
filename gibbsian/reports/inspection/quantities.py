"""What each observable is called on the page, in which unit, on which scale, and what it means."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """An observable as the page shows it."""

    name: str
    """Its key in `inspection["maps"]` and `inspection["histograms"]`."""
    title: str
    symbol: str
    unit: str
    """Empty for a pure number."""
    group: str
    scale: Literal["linear", "log", "signed"] = "linear"
    """`signed`: colours diverge from zero where both signs occur."""
    meaning: str


_SHAPE = "Shape of the rows"
_PLACE = "Where they look"
_HEAT = "Temperature and mixing"
_ENERGY = "Energies"
_SPARSE = "Under the schedule"

QUANTITIES: tuple[Quantity, ...] = (
    Quantity(
        name="normalized_entropy",
        title="Normalised entropy",
        symbol="S / log n",
        unit="",
        group=_SHAPE,
        meaning="Entropy of a row over the log of its visible keys: 1 is uniform, 0 one key.",
    ),
    Quantity(
        name="entropy",
        title="Entropy",
        symbol="S",
        unit="nats",
        group=_SHAPE,
        meaning="S = ⟨−log p⟩ of a row of attention, averaged over the rows.",
    ),
    Quantity(
        name="varentropy",
        title="Varentropy",
        symbol="V",
        unit="nats²",
        group=_SHAPE,
        meaning="V = Var(−log p): the heat capacity of a row; 0 if it is flat on its support.",
    ),
    Quantity(
        name="third_cumulant",
        title="Third cumulant",
        symbol="κ₃",
        unit="nats³",
        group=_SHAPE,
        scale="signed",
        meaning="κ₃ = ⟨(log p + S)³⟩, the skewness of the log-probabilities.",
    ),
    Quantity(
        name="effective_support",
        title="Effective support",
        symbol="exp S",
        unit="keys",
        group=_SHAPE,
        scale="log",
        meaning="How many equally weighted keys would have the entropy of the row.",
    ),
    Quantity(
        name="sink_mass",
        title="Mass on the first position",
        symbol="p₁",
        unit="",
        group=_PLACE,
        meaning="Share of the attention that the first position takes (the attention sink).",
    ),
    Quantity(
        name="diagonal_mass",
        title="Mass on itself",
        symbol="pᵢᵢ",
        unit="",
        group=_PLACE,
        meaning="Share of the attention that a position gives to itself.",
    ),
    Quantity(
        name="attended_distance",
        title="Attended distance",
        symbol="⟨|i − j|⟩",
        unit="positions",
        group=_PLACE,
        scale="log",
        meaning="Mean distance from a position to what it attends to: a correlation length.",
    ),
    Quantity(
        name="agreement",
        title="Distance to the other heads",
        symbol="TV",
        unit="",
        group=_PLACE,
        meaning="Mean total variation distance to the other heads of the layer: 0 if all agree.",
    ),
    Quantity(
        name="temperature",
        title="Temperature",
        symbol="τ",
        unit="",
        group=_HEAT,
        scale="log",
        meaning="τ = 1/σ of the scores, from the spread of queries and keys.",
    ),
    Quantity(
        name="lln_temperature",
        title="Temperature of matched LLN",
        symbol="τ LLN",
        unit="",
        group=_HEAT,
        scale="log",
        meaning="Temperature of the log-normal linear attention matched to the head.",
    ),
    Quantity(
        name="cross_covariance",
        title="Cross covariance",
        symbol="C cross",
        unit="",
        group=_HEAT,
        scale="signed",
        meaning="Cov(q², k²) − Cov(q, k)²: what dependence of queries and keys adds to σ².",
    ),
    Quantity(
        name="eigenvalue_gap",
        title="Eigenvalue gap",
        symbol="1 − |λ₂|",
        unit="",
        group=_HEAT,
        meaning="One minus the second eigenvalue of the attention matrix: how fast it mixes.",
    ),
    Quantity(
        name="singular_gap",
        title="Singular gap",
        symbol="1 − σ₂",
        unit="",
        group=_HEAT,
        meaning="One minus the largest singular value of the matrix without its mean; below 0 "
        "where that value exceeds 1.",
    ),
    Quantity(
        name="log_partition",
        title="Log partition function",
        symbol="log Z",
        unit="nats",
        group=_ENERGY,
        meaning="log Z = logsumexp of the scores of a row.",
    ),
    Quantity(
        name="free_energy",
        title="Free energy",
        symbol="F",
        unit="nats",
        group=_ENERGY,
        meaning="F = −log Z = U − S at temperature 1.",
    ),
    Quantity(
        name="internal_energy",
        title="Internal energy",
        symbol="U",
        unit="nats",
        group=_ENERGY,
        meaning="U = −⟨score⟩ under the row.",
    ),
    Quantity(
        name="susceptibility",
        title="Response to sparsity",
        symbol="S V − κ₃/2",
        unit="nats",
        group=_ENERGY,
        scale="signed",
        meaning="−dS/dζ at softmax: the nats of entropy that a first bit of sparsity removes.",
    ),
    Quantity(
        name="zeta",
        title="Sparsity chosen",
        symbol="ζ",
        unit="",
        group=_SPARSE,
        meaning="What the schedule picks from S and V: 0 is softmax, 1 sparsemax.",
    ),
    Quantity(
        name="support_size",
        title="Keys kept",
        symbol="support",
        unit="keys",
        group=_SPARSE,
        scale="log",
        meaning="Keys with a weight above zero under the chosen sparsity.",
    ),
    Quantity(
        name="sparse_effective_support",
        title="Effective support, sparse",
        symbol="exp S(ζ)",
        unit="keys",
        group=_SPARSE,
        scale="log",
        meaning="Effective support of the row after sparsity.",
    ),
    Quantity(
        name="predicted_support",
        title="Effective support, predicted",
        symbol="exp Ŝ(ζ)",
        unit="keys",
        group=_SPARSE,
        scale="log",
        meaning="exp(S − ζ(S V − κ₃/2)): what linear response predicts before any sparsity.",
    ),
)

_KNOWN = {quantity.name: quantity for quantity in QUANTITIES}


def described(names: set[str]) -> list[dict[str, Any]]:
    """Descriptions of `names` in the order of the page; an unknown one is called by its name."""
    known = [asdict(quantity) for quantity in QUANTITIES if quantity.name in names]
    strangers = [
        asdict(
            Quantity(
                name=name,
                title=name.replace("_", " ").capitalize(),
                symbol="",
                unit="",
                group="Others",
                meaning="An observable of a later version.",
            )
        )
        for name in sorted(names - _KNOWN.keys())
    ]
    return known + strangers
