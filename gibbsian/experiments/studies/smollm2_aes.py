r"""Perplexity against mean support when a pretrained model's attention is made sparse.

SmolLM2-135M-Instruct, trained with softmax attention, gets entmax attention with one sparsity for
all rows, with adaptive sparsity (AES), or with its mirrored direction, and no further training.
Each point is a family and a largest sparsity; at equal support the family with the lower perplexity
has chosen the better rows to make sparse.

    python -m gibbsian.experiments.studies.smollm2_aes --out results
"""

import argparse
import csv
import io
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gibbsian._errors import DataError, GibbsianError
from gibbsian._files import write_atomic
from gibbsian.attention import AES, Attention, AttentionStatistics, Entmax, Softmax
from gibbsian.experiments.files import write_json
from gibbsian.experiments.machine import describe_machine, describe_versions
from gibbsian.experiments.pretrained import smollm2_folder
from gibbsian.experiments.text import load_text
from gibbsian.integrations.transformers import use
from gibbsian.normalizers.schedules import Direction, SmoothStep

NAME = "smollm2-aes"
FRACTIONS = (0.8, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05)
"""Support fractions at which the families are compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One attention to measure."""

    family: str
    """What decides which rows are sparse."""
    zeta_max: float
    """The largest sparsity of a row."""
    attention: Attention
    """The attention itself."""


def _aes(zeta_max: float, low: float, high: float, direction: Direction) -> AES:
    return AES(schedule=SmoothStep(low=low, high=high, zeta_max=zeta_max, direction=direction))


def points() -> Iterator[Point]:
    """Softmax first, then each family from dense to sparse."""
    yield Point(family="softmax", zeta_max=0.0, attention=Softmax())
    for zeta in (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0):
        yield Point(family="constant", zeta_max=zeta, attention=Entmax(zeta=zeta))
    ramps: tuple[tuple[str, float, float, Direction, tuple[float, ...]], ...] = (
        ("AES 0.2-0.9", 0.2, 0.9, "concentrate_low", (0.1, 0.2, 0.35, 0.6, 1.0)),
        ("AES 0.5-1.0", 0.5, 1.0, "concentrate_low", (0.1, 0.2, 0.35, 0.6)),
        ("mirrored 0.2-0.9", 0.2, 0.9, "concentrate_high", (0.05, 0.1, 0.2, 0.4, 1.0)),
    )
    for family, low, high, direction, largest in ramps:
        for zeta_max in largest:
            attention = _aes(zeta_max, low, high, direction)
            yield Point(family=family, zeta_max=zeta_max, attention=attention)


def windows_of(
    tokens: Int64[Tensor, "tokens"], count: int, length: int
) -> list[Int64[Tensor, "1 length"]]:
    """Windows at equal distances over the whole text.

    Raises:
        DataError: the text is shorter than the windows together.
    """
    if len(tokens) < count * length:
        raise DataError(
            f"`--windows` x `--length` must be at most the text's {len(tokens)} tokens, got "
            f"{count} x {length}. Take fewer or shorter windows."
        )
    stride = len(tokens) // count
    return [tokens[None, i * stride : i * stride + length] for i in range(count)]


@torch.no_grad()
def measure(
    model: PreTrainedModel, attention: Attention, windows: Sequence[Int64[Tensor, "1 length"]]
) -> tuple[Float[Tensor, "predictions"], dict[str, Any]]:
    """Losses of all predicted tokens, and the rows' statistics.

    Returns:
        Nats, one for each token but each window's first; means over rows of all layers and heads,
        `support_fraction` = keys with a weight over keys that could have one.
    """
    use(model, attention).eval()
    losses, rows = [], []
    for window in windows:
        outputs = model(window, output_attentions=True, use_cache=False)
        predicted = outputs.logits[0, :-1].float().log_softmax(dim=-1)
        losses.append(-predicted.gather(1, window[0, 1:, None]).squeeze(1))
        rows.append(torch.stack(outputs.attentions).squeeze(1))
    statistics = AttentionStatistics.unstack(torch.cat(rows, dim=-2))
    support, keys = statistics.support_size, statistics.num_keys
    by_layer = support.sum(dim=(1, 2)) / keys.sum(dim=(1, 2))
    return torch.cat(losses), {
        "support_keys": support.mean().item(),
        "support_fraction": (support.sum() / keys.sum()).item(),
        "zeta": statistics.zeta.mean().item(),
        "entropy": statistics.entropy.mean().item(),
        "varentropy": statistics.varentropy.mean().item(),
        "support_fraction_by_layer": [round(fraction, 4) for fraction in by_layer.tolist()],
    }


def study(
    model: PreTrainedModel, windows: Sequence[Int64[Tensor, "1 length"]]
) -> list[dict[str, Any]]:
    """One row a point. `loss_increase` is against softmax, with its standard error over tokens."""
    rows = []
    dense: Tensor | None = None
    for point in points():
        losses, statistics = measure(model, point.attention, windows)
        dense = losses if dense is None else dense
        increase = losses - dense
        row = {
            "family": point.family,
            "zeta_max": point.zeta_max,
            "perplexity": losses.mean().exp().item(),
            "loss": losses.mean().item(),
            "loss_increase": increase.mean().item(),
            "loss_increase_error": (increase.std() / len(increase) ** 0.5).item(),
            **statistics,
            "attention": point.attention.to_config(),
        }
        rows.append(row)
        sys.stderr.write(
            f"{point.family:18} {point.zeta_max:5.2f}  perplexity {row['perplexity']:8.2f}  "
            f"support {row['support_fraction']:6.1%}\n"
        )
    return rows


def at_equal_support(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Perplexity of each family at `FRACTIONS`, by interpolation between its points.

    The loss is linear in the logarithm of the support fraction between neighbours; softmax is the
    dense end of every family. None where a family has no point that sparse.
    """
    families = list(dict.fromkeys(row["family"] for row in rows[1:]))
    table = []
    for fraction in FRACTIONS:
        entry: dict[str, Any] = {"support_fraction": fraction}
        for family in families:
            own = [row for row in rows if row["family"] in (family, rows[0]["family"])]
            entry[family] = _interpolated(own, fraction)
        table.append(entry)
    return table


def _interpolated(rows: Sequence[dict[str, Any]], fraction: float) -> float | None:
    ordered = sorted(rows, key=lambda row: -row["support_fraction"])
    for denser, sparser in pairwise(ordered):
        high, low = denser["support_fraction"], sparser["support_fraction"]
        if high >= fraction >= low and high > low:
            part = math.log(high / fraction) / math.log(high / low)
            return math.exp(denser["loss"] + part * (sparser["loss"] - denser["loss"]))
    return None


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The numbers of the points as a table."""
    columns = [name for name, value in rows[0].items() if isinstance(value, str | float)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(
            [f"{row[name]:.6g}" if isinstance(row[name], float) else row[name] for name in columns]
        )
    return text.getvalue()


def run(options: argparse.Namespace) -> None:
    """Measure all points and write `smollm2-aes.json` and `.csv`."""
    text = load_text(options.text)
    source = options.model or smollm2_folder()
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"`--model` must name a causal language model: {reason}") from error
    # The tokens of a stretch are enough, and a tokenizer need not see megabytes.
    tokens = torch.tensor(tokenizer(text.content[: options.characters])["input_ids"])
    rows = study(model, windows_of(tokens, options.windows, options.length))
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "command": f"python -m gibbsian.experiments.studies.smollm2_aes --out {options.out}"
        f" --windows {options.windows} --length {options.length}",
        "model": options.model or "SmolLM2-135M-Instruct, weights of 4 bits (GGUF Q4_1) as float32",
        "text": {"name": text.name, "sha256": text.sha256, "characters": options.characters},
        "predictions": options.windows * (options.length - 1),
        "machine": describe_machine(torch.device("cpu")),
        "versions": describe_versions(),
        "points": rows,
        "perplexity_at_equal_support": at_equal_support(rows),
    }
    write_json(folder / f"{NAME}.json", content)
    write_atomic(folder / f"{NAME}.csv", as_csv(rows))
    sys.stderr.write(f"{folder / NAME}.json\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="smollm2_aes", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", default="results", help="folder of the result")
    parser.add_argument("--model", help="folder or hub name; default: SmolLM2-135M-Instruct")
    parser.add_argument("--text", nargs="*", default=[], help="UTF-8 files; default: Emma")
    parser.add_argument(
        "--characters", type=int, default=880_000, help="of the text, from its start"
    )
    parser.add_argument("--windows", type=int, default=3, help="number of windows")
    parser.add_argument("--length", type=int, default=512, help="tokens of a window")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except GibbsianError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
