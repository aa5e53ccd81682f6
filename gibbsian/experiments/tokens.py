"""From text to token numbers, with the length of every token in bytes.

Losses are compared in bits per byte, which does not depend on the tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from gibbsian._errors import ArgumentError


class Tokens(ABC):
    """A vocabulary. The number after its last token is free for a mask token."""

    size: int
    """Number of tokens."""
    num_bytes: Int64[Tensor, "size"]
    """UTF-8 length of each token."""

    @abstractmethod
    def encode(self, text: str) -> Int64[Tensor, "tokens"]:
        """Token numbers of a text; nothing is added, nothing is lost."""


class ByteTokens(Tokens):
    """The 256 byte values."""

    def __init__(self) -> None:
        self.size = 256
        self.num_bytes = torch.ones(256, dtype=torch.int64)

    def encode(self, text: str) -> Int64[Tensor, "tokens"]:
        """UTF-8 bytes."""
        return torch.tensor(list(text.encode()), dtype=torch.int64)


class BPETokens(Tokens):
    """Byte-pair encoding over bytes, trained on the given texts."""

    def __init__(self, size: int, texts: Sequence[str]) -> None:
        self._tokenizer = Tokenizer(models.BPE())
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        self._tokenizer.train_from_iterator(texts, trainer=trainer)
        vocabulary = self._tokenizer.get_vocab()
        self.size = len(vocabulary)
        self.num_bytes = torch.zeros(self.size, dtype=torch.int64)
        for token, number in vocabulary.items():
            # byte-level tokens are spelled with one character a byte
            self.num_bytes[number] = len(token)

    def encode(self, text: str) -> Int64[Tensor, "tokens"]:
        """Token numbers by the trained merges."""
        return torch.tensor(self._tokenizer.encode(text).ids, dtype=torch.int64)


def make_tokens(spec: str, texts: Sequence[str]) -> Tokens:
    """The vocabulary that `spec` names: `byte` or `bpe:SIZE`, trained on `texts`.

    Raises:
        ArgumentError: `spec` is neither.
    """
    if spec == "byte":
        return ByteTokens()
    kind, _, size = spec.partition(":")
    if kind == "bpe" and size.isdecimal() and 257 <= int(size) <= 65536:
        return BPETokens(int(size), texts)
    raise ArgumentError(
        f"`tokens` must be 'byte' or 'bpe:SIZE' with SIZE in 257 .. 65536, got {spec!r}."
    )
