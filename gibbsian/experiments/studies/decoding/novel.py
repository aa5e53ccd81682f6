"""Prompts from one novel with their human continuations, and other novels for the second model."""

import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

PROMPTS_FROM = "emma"
JUDGE_FROM = ("pride_and_prejudice", "sense_and_sensibility")
PROMPT_LENGTH = 48


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """The start of a stretch of a novel, and how it goes on."""

    prompt: str
    human: list[int]
    """Tokens of the continuation."""


def novel(name: str) -> str:
    """An embedded novel, line breaks within paragraphs as spaces."""
    folder = resources.files("gibbsian.experiments") / "data"
    text = lzma.decompress((folder / f"{name}.txt.xz").read_bytes()).decode()
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n") if part.strip())


def openings(
    tokenizer: Any, tuning: int, test: int, length: int, text: str | None = None
) -> tuple[list[Opening], list[Opening]]:
    """Two splits of prompts of 48 tokens, at equal distances in the novel; no stretch overlaps.

    Every tuning prompt lies between test prompts, so that both splits come from the whole novel.
    """
    text = novel(PROMPTS_FROM) if text is None else text
    count = tuning + test
    share = len(text) // count
    found = []
    for i in range(count):
        stretch = text[i * share : (i + 1) * share]
        # the first word may be cut
        stretch = stretch[stretch.index(" ") + 1 :]
        tokens = tokenizer(stretch, add_special_tokens=False)["input_ids"]
        found.append(
            Opening(
                prompt=tokenizer.decode(tokens[:PROMPT_LENGTH]),
                human=tokens[PROMPT_LENGTH : PROMPT_LENGTH + length],
            )
        )
    chosen = set(np.linspace(0, count - 1, tuning).round().astype(int).tolist())
    return (
        [opening for i, opening in enumerate(found) if i in chosen],
        [opening for i, opening in enumerate(found) if i not in chosen],
    )


def paragraphs(tokenizer: Any, names: Sequence[str] = JUDGE_FROM) -> list[list[int]]:
    """Tokens of novels, in long stretches."""
    stretches = []
    for name in names:
        text = novel(name)
        for first in range(0, len(text), 20_000):
            piece = text[first : first + 20_000]
            stretches.append(list(tokenizer(piece, add_special_tokens=False)["input_ids"]))
    return stretches
