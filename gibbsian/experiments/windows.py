"""Windows of tokens as training examples, in an order that depends on nothing but the seed.

Example number k of a run is a pure function of (seed, k): the same for every attention, for any
number of processes and after a resumption. That is why no data loader state is saved.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset

from gibbsian._errors import DataError

IGNORED = -100
"""Label of a position without a loss (the convention of transformers)."""
MASKED_FRACTION = 0.15
"""Part of an encoder's window that is replaced by the mask token and predicted."""


def cut_windows(
    stretches: Sequence[Int64[Tensor, "_"]], context: int, *, part: str
) -> Int64[Tensor, "windows context"]:
    """Consecutive windows of each stretch; what is left at its end is dropped.

    Raises:
        DataError: no stretch is as long as one window.
    """
    windows = [s[: len(s) // context * context].view(-1, context) for s in stretches]
    together = torch.cat(windows)
    if not len(together):
        longest = max((len(s) for s in stretches), default=0)
        raise DataError(
            f"`text` is too short: its longest {part} block has {longest} tokens, and a window "
            f"takes `context` = {context}. Give a longer text or a smaller context."
        )
    return together


def label(
    window: Int64[Tensor, "context"], kind: str, mask_token: int, seed: int
) -> dict[str, Int64[Tensor, "context"]]:
    """A window as the model's `input_ids` and `labels`.

    A decoder predicts each token but the first from those before it. An encoder predicts 15 % of
    the positions (at least one, their number is fixed), drawn by `seed` and all replaced by the
    mask token.
    """
    if kind == "decoder":
        labels = window.clone()
        labels[0] = IGNORED  # nothing comes before it; transformers counts labels for the mean
        return {"input_ids": window, "labels": labels}
    generator = torch.Generator().manual_seed(seed)
    count = max(1, round(MASKED_FRACTION * len(window)))
    chosen = torch.randperm(len(window), generator=generator)[:count]
    hidden = torch.zeros(len(window), dtype=torch.bool)
    hidden[chosen] = True
    return {
        "input_ids": window.masked_fill(hidden, mask_token),
        "labels": window.masked_fill(~hidden, IGNORED),
    }


class TrainingExamples(Dataset[dict[str, Tensor]]):
    """All examples of a run, in order: epochs of shuffled windows, until `num_examples`."""

    def __init__(
        self,
        windows: Int64[Tensor, "windows context"],
        num_examples: int,
        *,
        kind: str,
        mask_token: int,
        seed: int,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        epochs = -(-num_examples // len(windows))
        order = [torch.randperm(len(windows), generator=generator) for _ in range(epochs)]
        self._order = torch.cat(order)[:num_examples]
        self._windows = windows
        self._kind = kind
        self._mask_token = mask_token
        self._seed = seed

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        window = self._windows[self._order[index]]
        # seed < 2^31 and the example's number share 64 bits: no two examples draw alike
        return label(window, self._kind, self._mask_token, (self._seed << 32) + index)


def validation_batches(
    windows: Int64[Tensor, "windows context"],
    limit: int,
    batch: int,
    *,
    kind: str,
    mask_token: int,
) -> list[dict[str, Int64[Tensor, "batch context"]]]:
    """At most `limit` windows, evenly spread, labelled once and for all, in batches."""
    limit = min(limit, len(windows))
    chosen = [i * len(windows) // limit for i in range(limit)]
    examples = [label(windows[i], kind, mask_token, i) for i in chosen]
    groups = [examples[i : i + batch] for i in range(0, limit, batch)]
    return [
        {key: torch.stack([example[key] for example in group]) for key in ("input_ids", "labels")}
        for group in groups
    ]
