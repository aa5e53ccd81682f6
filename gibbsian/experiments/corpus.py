"""A text as windows of tokens, ready for training and validation."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from gibbsian.experiments.config import CompareConfig
from gibbsian.experiments.text import load_text, split
from gibbsian.experiments.tokens import Tokens, make_tokens
from gibbsian.experiments.windows import cut_windows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Corpus:
    """Tokens and windows of a text."""

    tokens: Tokens
    """The vocabulary."""
    train: Int64[Tensor, "train_windows context"]
    """Training windows."""
    validation: Int64[Tensor, "validation_windows context"]
    """Validation windows."""
    description: dict[str, Any]
    """Name, size and hash of the text, sizes of the parts; JSON-able."""


def load_corpus(config: CompareConfig) -> Corpus:
    """Read, split, tokenise and cut the text of a comparison.

    Raises:
        DataError: the text cannot be read, is empty or too short.
        ArgumentError: the tokens are unknown.
    """
    text = load_text(config.text)
    train_text, validation_text = split(text.content)
    tokens = make_tokens(config.tokens, train_text)
    train = cut_windows([tokens.encode(t) for t in train_text], config.context, part="training")
    validation = cut_windows(
        [tokens.encode(t) for t in validation_text], config.context, part="validation"
    )
    return Corpus(
        tokens=tokens,
        train=train,
        validation=validation,
        description={
            "name": text.name,
            "bytes": text.num_bytes,
            "sha256": text.sha256,
            "tokens": tokens.size,
            "train_tokens": train.numel(),
            "validation_tokens": validation.numel(),
        },
    )
