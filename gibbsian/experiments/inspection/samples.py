"""Texts and images as inputs of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gibbsian._errors import DataError
from gibbsian.experiments.inspection.subject import Subject
from gibbsian.experiments.text import Text


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One input, a batch of one."""

    name: str
    """Of its file."""
    inputs: dict[str, Tensor]
    """Arguments of the model."""
    pieces: list[str] | None
    """The text in tokens; what lies between two tokens belongs to the second. None = an image."""


def text_sample(subject: Subject, text: Text, tokens: int | None) -> Sample:
    """A text's first tokens, or all.

    Raises:
        DataError: fewer than two tokens, or more than the model has positions.
    """
    tokenizer, limit = subject.tokenizer, subject.positions
    if tokens is not None and limit is not None and tokens > limit:
        raise DataError(
            f"`--tokens` must be at most {limit}, the positions of {subject.name}, got {tokens}."
        )
    cut: dict[str, Any] = {} if tokens is None else {"truncation": True, "max_length": tokens}
    encoded = tokenizer(
        text.content,
        return_tensors="pt",
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,
        **cut,
    )
    numbers = encoded["input_ids"][0]
    if len(numbers) == 0:
        raise DataError(f"`text` must not be empty, got no token of {text.name}.")
    if len(numbers) == 1:
        raise DataError(
            f"`text` must have at least 2 tokens, got 1 in {text.name}. A row needs keys to "
            "choose from."
        )
    if limit is not None and len(numbers) > limit:
        raise DataError(
            f"`text` must have at most {limit} tokens, the positions of {subject.name}, got "
            f"{len(numbers)} in {text.name}. Read the first ones: `--tokens {limit}`."
        )
    names = ["input_ids", "attention_mask"]
    if not subject.predicts:  # a decoder may take segments for more tokens
        names.append("token_type_ids")
    if tokenizer.is_fast:
        offsets = encoded["offset_mapping"][0].tolist()
        pieces = _pieces(text.content, offsets, tokenizer.convert_ids_to_tokens(numbers.tolist()))
    else:
        pieces = [tokenizer.decode([number]) for number in numbers.tolist()]
    return Sample(
        name=text.name,
        inputs={name: encoded[name] for name in names if name in encoded},
        pieces=pieces,
    )


def _pieces(content: str, offsets: Sequence[Sequence[int]], tokens: Sequence[str]) -> list[str]:
    """Text of each token; together they give the text back.

    Of the tokens that share a character (its bytes), the first gets it and the others nothing. A
    token that stands for no text (`[CLS]`) gets its name.
    """
    pieces, reached = [], 0
    for (start, end), token in zip(offsets, tokens, strict=True):
        if start == end:
            pieces.append(token)
            continue
        pieces.append(content[reached:end])
        reached = max(reached, end)
    return pieces


def image_sample(subject: Subject, path: Path) -> Sample:
    """An image, resized and normalised as the model wants it.

    Raises:
        DataError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            pixels = subject.processor(images=image.convert("RGB"), return_tensors="pt")
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise DataError(
            f"`--images` must be images that Pillow reads, got {path}. Give PNG or JPEG files."
        ) from None
    except OSError as error:
        raise DataError(
            f"`--images` must be readable files, got {path}: {error.strerror or error}. "
            "Check the path."
        ) from None
    return Sample(name=path.name, inputs={"pixel_values": pixels["pixel_values"]}, pieces=None)
