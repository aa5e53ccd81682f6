r"""Does the cost of sparse attention fall as $1/\zeta$ and $1/V$, and grow as $n \sqrt n$?

What a row costs is at least its candidates, the keys with $x_j > \max x - 1/\zeta$, counted here on
Gaussian scores; and at most what a certified filter makes it read, as the pruning study counted.
`gibbsian.experiments.studies.pruning_times` timed this package's attention.
"""

import json
from pathlib import Path
from typing import Any

import torch

from gibbsian.experiments.claims.claim import Claim, Judgement, Measured, Numbers, Size, Verdict
from gibbsian.experiments.claims.intervals import Estimate, mean_of, slope
from gibbsian.experiments.claims.picture import Panel, Picture, Series, floats
from gibbsian.statistics import gibbs_statistics

COUNTS_FILE = Path("results") / "pruning.json"
TIMES_FILE = Path("results") / "pruning-times.json"
SOURCE = "SmolLM2-135M"
ZETAS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
SPREADS = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Deviations of the scores; V grows with them as long as rows do not collapse."""
RECIPROCAL = (-1.25, -0.75)
ROOT = 0.55
DECODING, PREFILL = "the time of decoding a row", "the time of prefill, n rows"


def candidates(scores: torch.Tensor, zeta: float) -> float:
    """Mean number of keys that a row of this sparsity cannot do without."""
    return float(
        (scores > scores.amax(dim=-1, keepdim=True) - 1 / zeta).sum(dim=-1).double().mean()
    )


def _own(size: Size, seed: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Exponents of the candidates of Gaussian rows, and the last seed's curves."""
    seeds, rows, sizes = (
        (3, 32, (256, 512, 1024, 2048)) if size == "quick" else (8, 64, (256, 1024, 4096, 16384))
    )
    exponents: dict[str, list[float]] = {}
    curves: dict[str, Any] = {}
    for i in range(seeds):
        generator = torch.Generator().manual_seed(seed + i)
        base = torch.randn(rows, sizes[-1], generator=generator, dtype=torch.float64)
        by_zeta = [candidates(3 * base, zeta) for zeta in ZETAS]
        by_size = [candidates(3 * base[:, :count], 0.3) for count in sizes]
        varentropy, by_spread = [], []
        for spread in SPREADS:
            varentropy.append(float(gibbs_statistics(spread * base).varentropy.mean()))
            by_spread.append(candidates(spread * base, 0.3))
        curves = {
            "ζ": (ZETAS, by_zeta),
            "V": (varentropy, by_spread),
            "n": (sizes, by_size),
        }
        for name, (x, y) in curves.items():
            exponents.setdefault(f"exponent in {name} of the candidates, Gaussian rows", []).append(
                slope(torch.tensor(x).log().tolist(), torch.tensor(y).log().tolist())
            )
    return exponents, curves


def _fitted(found: dict[str, Any], count: int, over: str) -> Estimate:
    low, high = found["exponent_interval"] if "exponent_interval" in found else found["interval"]
    return Estimate(
        value=float(found["exponent"]), low=float(low), high=float(high), count=count, over=over
    )


def _counts(folder: Path) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """Exponents of the pruning study on real heads, and its curves; nothing without its file."""
    numbers: dict[str, Estimate] = {}
    curves: dict[str, Any] = {}
    if (folder / COUNTS_FILE).exists():
        study = json.loads((folder / COUNTS_FILE).read_text(encoding="utf-8"))
        (source,) = (s for s in study["sources"] if s["source"] == SOURCE and s["mode"] == "decode")
        heads, name = source["heads"], f"{SOURCE}, decoding"
        reads = {k: f["reads"] for k, f in source["filters"].items()}
        best = min(reads, key=lambda k: reads[k]["by_keys"][-1])
        numbers[f"exponent in n of the keys read, {name}"] = _fitted(
            reads[best]["against_keys"], heads, "heads"
        )
        numbers[f"exponent in ζ of the keys read, {name}"] = _fitted(
            reads[best]["against_zeta"], heads, "heads"
        )
        by_varentropy = source["by_varentropy"]
        numbers[f"exponent in V of the keys visited, {name}"] = _fitted(
            by_varentropy[best], heads, "heads"
        )
        for quantity, key in (("n", "against_keys"), ("ζ", "against_zeta")):
            numbers[f"exponent in {quantity} of the candidates, {name}"] = _fitted(
                source["candidates"][key], heads, "heads"
            )
        curves = {
            "ζ": (study["zeta"], reads[best]["by_zeta"]),
            "n": (source["keys_seen"], reads[best]["by_keys"]),
            "V": (
                [d["varentropy"] for d in by_varentropy["deciles"]],
                [d["candidates"] for d in by_varentropy["deciles"]],
            ),
        }
    return numbers, curves


def _times(folder: Path) -> tuple[dict[str, Estimate], str]:
    """Exponents of times, and what was timed on which machine; nothing without the file."""
    if not (folder / TIMES_FILE).exists():
        return {}, ""
    times = json.loads((folder / TIMES_FILE).read_text(encoding="utf-8"))
    found = {
        f"exponent in n of {what}, {how}": by_keys
        for what, part in ((DECODING, "decoding"), (PREFILL, "prefill"))
        for how, by_keys in times[part].items()
        if how != "keys"
    }
    found[f"exponent in ζ of {PREFILL}"] = times["prefill_at_fixed_zeta"]
    of_spread = times["prefill_of_one_spread"]
    found[f"exponent in V of {PREFILL}, ζ = {of_spread['zeta']:g}"] = of_spread
    machine = times["machine"]
    scale = (
        f"times (Gaussian keys, {times['seeds']} seeds): a row on up to "
        f"{times['decoding']['keys'][-1]} keys, n rows up to {times['prefill']['keys'][-1]}, "
        f"{machine['processor']}, {machine['cores']} cores"
    )
    return {name: _fitted(f, times["seeds"], "seeds") for name, f in found.items()}, scale


def measure(size: Size, seed: int) -> Measured:
    """Candidates of Gaussian rows, and what the pruning study found on real heads."""
    exponents, own = _own(size, seed)
    numbers = {name: mean_of(values) for name, values in exponents.items()}
    counted, real = _counts(Path())
    timed, time_scale = _times(Path())
    numbers |= counted | timed
    absent = [
        what
        for what, found in ((f"counts ({COUNTS_FILE})", counted), (f"times ({TIMES_FILE})", timed))
        if not found
    ]
    labels = {"ζ": "sparsity ζ", "V": "varentropy V, nats²", "n": "keys n"}
    panels = []
    for name, label in labels.items():
        x, y = own[name]
        series = [Series(name="candidates, Gaussian rows", x=floats(x), y=floats(y))]
        if real.get(name):
            series.append(Series(name=SOURCE, x=floats(real[name][0]), y=floats(real[name][1])))
        power = 0.5 if name == "n" else -1.0
        series.append(
            Series(
                name="as claimed",
                x=floats(x),
                y=floats(y[0] * (v / x[0]) ** power for v in x),
                style="dashed",
            )
        )
        panels.append(
            Panel(
                title=f"keys a row against {name}",
                x_label=label,
                y_label="keys",
                x_scale="log",
                y_scale="log",
                series=tuple(series),
            )
        )
    return Measured(
        numbers=numbers,
        scale=f"Gaussian scores of deviation 3, {next(iter(exponents.values())).__len__()} seeds, "
        f"up to {own['n'][0][-1]} keys"
        + ("" if not real else f"; {SOURCE}'s 90 key heads, 256 to 8192 keys (pruning study)")
        + (f"; {time_scale}" if timed else ""),
        pictures=(
            Picture(
                name="cost",
                caption="Keys a row against sparsity, varentropy and number of keys: candidates of "
                "Gaussian rows, keys read on real heads (against V: candidates), and the slopes of "
                "the claim.",
                panels=tuple(panels),
            ),
        ),
        missing=" and ".join(absent),
    )


_ORDER: tuple[Verdict, ...] = ("holds", "holds with a correction", "does not hold")


def _reciprocal(e: Estimate) -> Verdict:
    if e.low >= RECIPROCAL[0] and e.high <= RECIPROCAL[1]:
        return "holds"
    return "holds with a correction" if e.high < 0 else "does not hold"


def _root(e: Estimate) -> Verdict:
    return "holds" if e.high <= ROOT else "does not hold"


def judge(numbers: Numbers) -> Judgement:
    """Verdict by `RULE`: the worst of the three parts."""
    said, verdicts = [], []
    for x in ("ζ", "V", "n"):
        of = f"the keys {'visited' if x == 'V' else 'read'}, {SOURCE}, decoding"
        if f"exponent in {x} of {of}" not in numbers:
            of = "the candidates, Gaussian rows"
        e = numbers[f"exponent in {x} of {of}"]
        verdicts.append(_root(e) if x == "n" else _reciprocal(e))
        said.append(f"{of}: {x}^{e.value:.2f} [{e.low:.2f}, {e.high:.2f}] ({verdicts[-1]})")
    worst = max(verdicts, key=_ORDER.index)
    timed = ", ".join(
        f"{name.removeprefix('exponent in ').removeprefix(f'{x} of ')}: {x}^{e.value:.2f}"
        for name, e in numbers.items()
        for x in ("n", "ζ", "V")
        if name.startswith((f"exponent in {x} of {DECODING}", f"exponent in {x} of {PREFILL}"))
    )
    why = f"Of a row, {'; '.join(said)}."
    return worst, why + (f" In time, {timed}." if timed else "")


RULE = (
    "Three parts, and the worst of their verdicts. In zeta and in V: holds if the interval of the "
    "exponent lies in [-1.25, -0.75]; with a correction if the exponent is below 0 but another: a "
    "trend, not the law; otherwise not. In n, for a row: holds if the exponent is at most 0.55 "
    "(upper end), otherwise not. By the keys read on real heads where the pruning study is there "
    "(in V by those that it visits after a scan whose cost does not depend on V), else by the "
    "candidates of Gaussian rows. Times decide nothing."
)

CLAIM = Claim(
    id="A3",
    statement="The cost of a row falls as 1/ζ and as 1/varentropy, and n rows cost O(n √n)",
    source="AES note",
    how="Fitted exponents of the keys that a row cannot do without, and of those that the best "
    "certified filter reads on real heads (results/pruning.json); exponents of times "
    "(results/pruning-times.json).",
    rule=RULE,
    paper="Proportionalities; the author doubts them himself: it is very possible that the "
    "sparsity brings no efficiency.",
    measure=measure,
    judge=judge,
)
