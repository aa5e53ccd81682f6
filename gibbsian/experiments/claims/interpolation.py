r"""$\zeta(S)$ between softmax and sparsemax, and the attention output on the way.

Whether a function is continuous shows in its largest change over neighbouring points: for points h
apart it shrinks like h where the function is Lipschitz, and stays where it jumps.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gibbsian.attention import aes_attention, entmax_attention
from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size
from gibbsian.experiments.claims.intervals import largest_of, mean_of, slope
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.normalizers.schedules import Cosine, Linear, Schedule, SmoothStep, VarentropyBounds
from gibbsian.statistics import GibbsStatistics

STATES = 1024
END_ERROR = 1e-6
RISE = 1e-12
LEAST_EXPONENT, CONTROL_EXPONENT = 0.9, 0.5
SCHEDULES: dict[str, Schedule] = {
    "linear": Linear(),
    "smooth step": SmoothStep(),
    "cosine": Cosine(),
    "smooth step, bounds by V": SmoothStep(bounds=VarentropyBounds()),
}


def rows_of_entropy(normalized: Tensor, varentropy: float) -> GibbsStatistics:
    """Statistics of rows of 1024 states with the entropies wanted."""
    zero = torch.zeros_like(normalized)
    return GibbsStatistics(
        max_score=zero,
        min_entropy=zero,
        collision_entropy=zero,
        entropy=normalized * torch.tensor(float(STATES), dtype=normalized.dtype).log(),
        varentropy=zero + varentropy,
        third_cumulant=zero,
        num_states=zero + STATES,
        temperature=zero + 1.0,
    )


def step_schedule(statistics: GibbsStatistics) -> Tensor:
    """The control, which jumps."""
    return (statistics.normalized_entropy < 0.5).to(statistics.entropy.dtype)


def exponent(function: Callable[[Tensor], Tensor], steps: Sequence[int]) -> tuple[float, Tensor]:
    """How the largest change between neighbours shrinks with their distance on [0, 1].

    Args:
        function: (points,) to (points, ...).
        steps: numbers of intervals.

    Returns:
        The exponent, and the largest changes.
    """
    changes = []
    for count in steps:
        points = torch.linspace(0, 1, count + 1, dtype=torch.float64)
        found = function(points)
        changes.append((found[1:] - found[:-1]).abs().max())
    largest = torch.stack(changes).clamp_min(1e-300)
    log_steps = [-torch.tensor(float(count)).log().item() for count in steps]
    return slope(log_steps, largest.log().tolist()), largest


def sorted_sparsemax(scores: Tensor) -> Tensor:
    """Sparsemax by sorting, as Martins and Astudillo state it."""
    ordered = scores.sort(dim=-1, descending=True).values
    count = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
    sums = ordered.cumsum(dim=-1) - 1
    support = (ordered * count > sums).sum(dim=-1, keepdim=True)
    threshold = sums.gather(-1, support - 1) / support
    return (scores - threshold).clamp_min(0)


def measure(size: Size, seed: int) -> Measured:
    """Schedules on all entropies, outputs of random rows."""
    seeds = 4 if size == "quick" else 8
    fine = (100, 1000, 10_000) if size == "quick" else (100, 1000, 10_000, 100_000)
    coarse = (20, 100, 500) if size == "quick" else (20, 100, 500, 2500)
    numbers: dict[str, list[float]] = {}
    modulus: dict[str, tuple[Sequence[int], Tensor]] = {}

    def note(name: str, number: float) -> None:
        numbers.setdefault(name, []).append(number)

    for i in range(seeds):
        generator = torch.Generator().manual_seed(seed + i)
        varentropy = float(torch.rand((), generator=generator)) * 4
        for name, schedule in (*SCHEDULES.items(), ("control: a step", step_schedule)):
            bounded = getattr(schedule, "bounds", None) is not None

            def zeta(s: Tensor, schedule: Schedule = schedule, v: float = varentropy) -> Tensor:
                return schedule(rows_of_entropy(s, v))

            found, modulus[f"ζ(S), {name}"] = _and_modulus(exponent(zeta, fine), fine)
            kind = "control exponent" if "control" in name else "exponent"
            note(f"{kind}, ζ(S), {name}", found)
            if kind == "exponent":
                grid = zeta(torch.linspace(0, 1, 10_001, dtype=torch.float64))
                note("largest rise of ζ with S", grid.diff().max().item())
                # the levels do not move at V = 0
                ends = torch.tensor([0.0, 0.2, 0.9, 1.0], dtype=torch.float64)
                at_ends = zeta(ends, v=0.0) if bounded else zeta(ends)
                note(
                    "error of ζ at the ends",
                    (at_ends - torch.tensor([1.0, 1.0, 0.0, 0.0])).abs().max().item(),
                )
        _outputs(generator, coarse, note, modulus)
    found_numbers = {
        name: (mean_of if "exponent" in name else largest_of)(values)
        for name, values in numbers.items()
    }
    return Measured(
        numbers=found_numbers,
        scale=f"{seeds} seeds; neighbouring points 1/{fine[0]} to 1/{fine[-1]} apart in S / log "
        f"n, 1/{coarse[0]} to 1/{coarse[-1]} in ζ, a tenth of that along the path of queries; 8 "
        "queries, 64 keys, 16 channels; float64",
        pictures=(_picture(modulus, varentropy),),
    )


def _and_modulus(
    found: tuple[float, Tensor], steps: Sequence[int]
) -> tuple[float, tuple[Sequence[int], Tensor]]:
    return found[0], (steps, found[1])


def _outputs(
    generator: torch.Generator,
    steps: Sequence[int],
    note: Callable[[str, float], None],
    modulus: dict[str, tuple[Sequence[int], Tensor]],
) -> None:
    """Attention output against sparsity, and along a path of queries."""
    q, q2 = torch.randn(2, 1, 1, 8, 16, generator=generator, dtype=torch.float64).unbind()
    k, v = torch.randn(2, 1, 1, 64, 16, generator=generator, dtype=torch.float64).unbind()

    def of_zeta(zeta: Tensor) -> Tensor:
        return entmax_attention(
            q.expand(len(zeta), -1, -1, -1),
            k.expand(len(zeta), -1, -1, -1),
            v.expand(len(zeta), -1, -1, -1),
            zeta=zeta[:, None, None],
        )

    def along_path(t: Tensor) -> Tensor:
        # from nearly uniform rows to nearly one-hot ones: through all sparsities
        path = (0.05 + 8 * t[:, None, None, None]) * ((1 - t)[:, None, None, None] * q + q2)
        return aes_attention(
            path,
            k.expand(len(t), -1, -1, -1),
            v.expand(len(t), -1, -1, -1),
            schedule=SmoothStep(),
        )

    # the path is about ten times as fast: neighbours are as near in the end
    finer = [10 * count for count in steps]
    for name, function, counts in (("ζ", of_zeta, steps), ("the query, AES", along_path, finer)):
        label = f"output in {name}"
        found, modulus[label] = _and_modulus(exponent(function, counts), counts)
        note(f"exponent, {label}", found)
    ends = of_zeta(torch.tensor([0.0, 1.0], dtype=torch.float64))
    softmax = scaled_dot_product_attention(q, k, v)[0]
    sparsemax = (sorted_sparsemax(q @ k.mT / 16**0.5) @ v)[0]
    note(
        "error of the output at the ends",
        (ends - torch.stack([softmax, sparsemax])).abs().max().item(),
    )


def _picture(modulus: dict[str, tuple[Sequence[int], Tensor]], varentropy: float) -> Picture:
    s = torch.linspace(0, 1, 201, dtype=torch.float64)
    curves = tuple(
        Series(name=name, x=floats(s), y=floats(schedule(rows_of_entropy(s, varentropy))))
        for name, schedule in SCHEDULES.items()
    )
    changes = tuple(
        Series(
            name=name.removeprefix("ζ(S), "),
            x=floats(1 / count for count in steps),
            y=floats(largest),
            style="dashed" if "control" in name else "line",
        )
        for name, (steps, largest) in modulus.items()
    )
    return Picture(
        name="continuity",
        caption="Left: the schedules between sparsemax (1) and softmax (0), eq. (3) of the note. "
        "Right: the largest change between neighbouring points; a jump would stay where it is.",
        panels=(
            Panel(
                title=f"schedules at V = {varentropy:.2g}",
                x_label="normalised entropy S / log n",
                y_label="sparsity ζ",
                series=curves,
            ),
            Panel(
                title="largest change between neighbours",
                x_label="distance of the neighbours",
                y_label="largest change",
                x_scale="log",
                y_scale="log",
                series=changes,
            ),
        ),
    )


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`."""
    control = numbers["control exponent, ζ(S), control: a step"]
    if control.high > CONTROL_EXPONENT:
        return "undecided", f"The measure does not see the control's jump ({control.value:.2f})."
    exponents = {name: e for name, e in numbers.items() if name.startswith("exponent")}
    name, least = min(exponents.items(), key=lambda item: item[1].low)
    ends = max(e.value for key, e in numbers.items() if key.startswith("error of"))
    rise = numbers["largest rise of ζ with S"].value
    said = (
        f"changes shrink with an exponent of at least {least.low:.3f} ({name.split(', ', 1)[1]}), "
        f"a step's with {control.value:.2f}; the ends are met to {ends:.1e}"
    )
    if least.low > LEAST_EXPONENT and ends < END_ERROR and rise <= RISE:
        return "holds", said[0].upper() + said[1:] + "; ζ never rises with S."
    return "does not hold", said[0].upper() + said[1:] + f"; largest rise {rise:.1e}."


RULE = (
    "Holds if the largest change between neighbours shrinks with their distance by an exponent "
    "above 0.9 (lower end of the interval), for every schedule, for the output in zeta and along a "
    "path of queries; the ends equal softmax and sparsemax within 1e-6; and zeta never rises with "
    "S. Otherwise it does not hold. Undecided if the exponent of a schedule with a jump is not "
    "below 0.5."
)

CLAIM = Claim(
    id="A1",
    statement="ζ(S) interpolates continuously between softmax at high entropy and sparsemax at low",
    source="AES note, eq. (3)",
    how="Largest changes of schedules and of attention outputs between neighbouring points, with a "
    "schedule that jumps as the control.",
    rule=RULE,
    paper="A decreasing continuous curve between two levels.",
    measure=measure,
    judge=judge,
)
