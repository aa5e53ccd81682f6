r"""Which keys of an attention row can be left unread, and what certifies it (claim A3).

Counts the keys that certified bounds leave to be visited, against the number of keys, the sparsity
and the varentropy; on random keys and on those of pretrained models; for decoding (one query, all
keys before it) and for prefill (all queries).

    python -m gibbsian.experiments.studies.pruning --output results/pruning.json
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gibbsian._errors import GibbsianError
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.pretrained import minilm_folder, smollm2_folder
from gibbsian.experiments.studies.pruning_filters import all_filters, integer_copy
from gibbsian.experiments.studies.pruning_fits import exponent, mean, power
from gibbsian.experiments.studies.pruning_measure import (
    CASCADE,
    FIXED,
    SETTINGS,
    SPARSITIES,
    Counts,
    certified_reads,
    copy_certificates,
    count,
)
from gibbsian.experiments.studies.pruning_sources import (
    FAMILIES,
    Family,
    Head,
    recorded_heads,
    rows_of,
    synthetic_head,
)
from gibbsian.experiments.text import load_text

TOLERANCES = (0.01, 0.05)
CERTIFIED = ("blocks of sqrt n, box", "sqrt n clusters, ball", "int8, centred")
"""Filters whose certified intervals are measured: the best of their kind."""
SPREADS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
"""Deviations of Gaussian scores, against which the cost is set by varentropy."""
_PREFILL_EVERY = 3
"""Prefill is measured on every third key head of the language model."""


@dataclass(kw_only=True)
class Gathered:
    """Counts of one source and mode, by number of keys and head."""

    source: str
    mode: str
    counts: dict[int, list[Counts]] = field(default_factory=lambda: defaultdict(list))
    certified: dict[int, dict[str, list[dict[str, Tensor]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, head: Head, size: int, seed: int) -> None:
        """Measure one head on its first `size` keys."""
        rows = rows_of(head, size, self.mode)
        filters = all_filters(rows.keys, seed)
        self.counts[size].append(count(rows, filters, tiled=self.mode != "decode"))
        if self.mode == "decode":
            for filter_ in filters:
                if filter_.name in CERTIFIED:
                    found = certified_reads(rows, filter_, TOLERANCES)
                    self.certified[size][filter_.name].append(found)

    def summary(self) -> dict[str, Any]:
        """Everything of this source and mode that goes into the result."""
        sizes = sorted(self.counts)
        largest = self.counts[sizes[-1]]
        every = [counts for size in sizes for counts in self.counts[size]]
        result: dict[str, Any] = {
            "source": self.source,
            "mode": self.mode,
            "heads": len(largest),
            "rows_of_a_head": len(largest[0].rows["zeta"]),
            "violated_bounds": sum(counts.violations for counts in every),
            "keys_seen": [self._mean(size, _row_mean("keys")) for size in sizes],
            "sizes": sizes,
            "zeta": mean(_stacked(largest, _row_mean("zeta"))),
            "varentropy": mean(_stacked(largest, _row_mean("varentropy"))),
            "support": mean(_stacked(largest, _row_mean("support"))),
            "candidates": self._entry(lambda c: c.candidates),
            "filters": {
                name: {
                    "visited": self._entry(_of("visited", name)),
                    "reads": self._entry(_of("reads", name)),
                    **self._tiled(name),
                }
                for name in largest[0].visited
            },
        }
        if self.certified:
            result["certified"] = self._certified(sizes)
            result["by_varentropy"] = self._by_varentropy(largest)
        return result

    def _tiled(self, name: str) -> dict[str, Any]:
        if self.mode == "decode":
            return {}
        return {"visited_by_tiles": self._entry(_of("together", name))}

    def _mean(self, size: int, of: Callable[[Counts], Tensor]) -> float:
        return round(_stacked(self.counts[size], of).mean().item(), 2)

    def _entry(self, of: Callable[[Counts], Tensor]) -> dict[str, Any]:
        """A count under the schedule against n, and at the largest n against zeta."""
        sizes = sorted(self.counts)
        table = torch.stack([_stacked(self.counts[size], of) for size in sizes], dim=1)
        at_largest = table[:, -1]
        seen = torch.stack(
            [_stacked(self.counts[size], _row_mean("keys")).mean() for size in sizes]
        )
        return {
            "by_keys": [round(value, 2) for value in table[..., 0].mean(dim=0).tolist()],
            "against_keys": exponent(seen, table[..., 0]),
            f"against_keys, {SETTINGS[FIXED]}": exponent(seen, table[..., FIXED]),
            "by_zeta": [round(value, 2) for value in at_largest[:, 1:].mean(dim=0).tolist()],
            "against_zeta": exponent(torch.tensor(SPARSITIES), at_largest[:, 1:]),
            "part_of_keys": mean(at_largest[:, 0] / seen[-1]),
        }

    def _certified(self, sizes: Sequence[int]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name in CERTIFIED:
            entry: dict[str, Any] = {}
            seen = torch.tensor([self._mean(size, _row_mean("keys")) for size in sizes])
            for quantity in self.certified[sizes[-1]][name][0]:
                table = torch.stack(
                    [
                        torch.stack(
                            [found[quantity].mean() for found in self.certified[size][name]]
                        )
                        for size in sizes
                    ],
                    dim=1,
                )
                entry[quantity] = {
                    "by_keys": [float(f"{value:.4g}") for value in table.mean(dim=0).tolist()]
                }
                if quantity.startswith("zeta"):
                    entry[quantity]["against_keys"] = exponent(seen, table)
            result[name] = entry
        return result

    def _by_varentropy(self, largest: Sequence[Counts]) -> dict[str, Any]:
        varentropy = _stacked(largest, _of("rows", "varentropy"))
        effects = ("candidates", f"candidates, {SETTINGS[FIXED]}", "int8, centred", CASCADE)
        result: dict[str, Any] = {}
        for name in effects:
            result[name] = power(varentropy, _stacked(largest, _of("rows", name)))
        order = varentropy.flatten().argsort()
        parts = order.tensor_split(10)
        result["deciles"] = [
            {
                quantity: float(f"{_flat(largest, quantity)[part].mean().item():.4g}")
                for quantity in ("varentropy", "entropy", "zeta", *effects)
            }
            for part in parts
        ]
        return result


def _stacked(counts: Sequence[Counts], of: Callable[[Counts], Tensor]) -> Tensor:
    return torch.stack([of(each) for each in counts])


def _of(table: str, name: str) -> Callable[[Counts], Tensor]:
    def entry(counts: Counts) -> Tensor:
        found: Tensor = getattr(counts, table)[name]
        return found

    return entry


def _row_mean(quantity: str) -> Callable[[Counts], Tensor]:
    return lambda counts: counts.rows[quantity].mean()


def _flat(counts: Sequence[Counts], quantity: str) -> Tensor:
    return _stacked(counts, _of("rows", quantity)).flatten()


def synthetic(family: Family, sizes: Sequence[int], seeds: int, mode: str) -> Gathered:
    """A synthetic family at every size."""
    gathered = Gathered(source=family.name, mode=mode)
    for size in sizes:
        for seed in range(seeds):
            gathered.add(synthetic_head(family, size, seed), size, seed)
    return gathered


def recorded(source: str, heads: Iterable[Head], sizes: Sequence[int], mode: str) -> Gathered:
    """A model's heads at every size."""
    gathered = Gathered(source=source, mode=mode)
    for seed, head in enumerate(heads):
        for size in sizes:
            gathered.add(head, size, seed)
    return gathered


def encoded(folder: Path, text: str, sizes: Sequence[int], windows: int) -> Gathered:
    """MiniLM's heads; an encoder's keys depend on all tokens, so each size is a run of its own."""
    gathered = Gathered(source="MiniLM", mode="both ways")
    for window in range(windows):
        part = text[window * len(text) // windows :]
        for size in sizes:
            for seed, head in enumerate(recorded_heads(folder, part[: 12 * size], size)):
                gathered.add(head, size, seed)
    return gathered


def spreads(size: int, seeds: int) -> list[dict[str, Any]]:
    """Gaussian keys of growing varentropy at one size."""
    table = []
    for spread in SPREADS:
        family = Family(name=f"Gaussian, spread {spread}", spread=spread)
        summary = synthetic(family, [size], seeds, "decode")
        counts = summary.counts[size]
        table.append(
            {
                "spread": spread,
                "keys": size,
                **{
                    name: mean(_stacked(counts, _row_mean(name)))
                    for name in (
                        "varentropy",
                        "entropy",
                        "zeta",
                        "candidates",
                        f"candidates, {SETTINGS[FIXED]}",
                        "int8, centred",
                        CASCADE,
                    )
                },
            }
        )
    return table


def copies(heads: Sequence[Head]) -> dict[str, Any]:
    """Integer copies of all keys of a model: mean, median and largest of every error, over rows."""
    result: dict[str, Any] = {}
    for bits in (8, 16):
        for centred in (False, True):
            found = []
            for head in heads:
                rows = rows_of(head, len(head.keys), "decode")
                filter_ = integer_copy(rows.keys, centred=centred, bits=bits)
                found.append(copy_certificates(rows, filter_))
            together = {name: torch.cat([each[name] for each in found]) for name in found[0]}
            result[filter_.name] = {
                name: {
                    "mean": float(f"{values.mean():.3g}"),
                    "median": float(f"{values.median():.3g}"),
                    "largest": float(f"{values.max():.3g}"),
                }
                for name, values in together.items()
            }
    return result


def _powers(low: int, high: int) -> list[int]:
    return [1 << k for k in range(low.bit_length() - 1, high.bit_length())]


def measured(options: argparse.Namespace, text: str) -> Iterator[dict[str, Any]]:
    """Every source and mode, one after the other."""
    for family in FAMILIES:
        for mode, largest in (("decode", options.decode), ("prefill", options.prefill)):
            yield synthetic(family, _powers(256, largest), options.seeds, mode).summary()
    if options.length:
        source = "SmolLM2-135M"
        heads = list(recorded_heads(smollm2_folder(), text[: 8 * options.length], options.length))
        sizes = _powers(256, options.length)
        yield {**recorded(source, heads, sizes, "decode").summary(), "copies": copies(heads)}
        yield recorded(source, heads[::_PREFILL_EVERY], sizes, "prefill").summary()
        del heads
        yield encoded(minilm_folder(), text, _powers(64, 512), options.windows).summary()


def run(options: argparse.Namespace) -> None:
    """Measure everything and write the result."""
    text = load_text(options.text)
    results = []
    for summary in measured(options, text.content):
        best = min(
            summary["filters"], key=lambda name: summary["filters"][name]["reads"]["by_keys"][-1]
        )
        sys.stderr.write(
            f"{summary['source']:24} {summary['mode']:10} candidates "
            f"{summary['candidates']['part_of_keys']['mean']:7.2%}  fewest reads: {best}\n"
        )
        results.append(summary)
    content = {
        "command": "python -m gibbsian.experiments.studies.pruning"
        f" --seeds {options.seeds} --decode {options.decode} --prefill {options.prefill}"
        f" --length {options.length} --windows {options.windows}",
        "text": {"name": text.name, "sha256": text.sha256},
        "schedule": "linear, 1 at S/log n <= 0.2 to 0 at >= 0.9",
        "zeta": SPARSITIES,
        "machine": describe_machine(torch.device("cpu")),
        "versions": describe_versions(),
        "sources": results,
        "spreads": spreads(min(16384, options.decode), options.seeds),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, content)
    sys.stderr.write(f"{options.output}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="pruning", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("results/pruning.json"))
    parser.add_argument("--text", nargs="*", default=[], help="UTF-8 files; default: Emma")
    parser.add_argument("--seeds", type=int, default=6, help="of each synthetic family")
    parser.add_argument(
        "--decode", type=int, default=131072, help="most synthetic keys, decoding; >= 512"
    )
    parser.add_argument(
        "--prefill", type=int, default=32768, help="most synthetic keys, prefill; >= 512"
    )
    parser.add_argument("--length", type=int, default=8192, help="tokens read; 0: no models")
    parser.add_argument("--windows", type=int, default=4, help="stretches of text for the encoder")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except GibbsianError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
