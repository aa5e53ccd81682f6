"""What single tokens read as: a word may need several, and a letter too."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gibbsian.sampling import TokenRecord

_REPLACEMENT = "\ufffd"


class TokenTexts:
    """The text that each token adds to a row; joined they are the text of all tokens.

    A token that ends inside a letter adds nothing; the one that ends the letter adds all of it.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._start = 0
        """Where the tokens begin that are decoded again: a space may depend on the one before."""
        self._told = 0
        """How many tokens have been told."""

    def add(self, token: int) -> str:
        """What the next token adds."""
        self._tokens.append(token)
        added = self._added()
        if added.endswith(_REPLACEMENT):
            return ""
        self._start, self._told = self._told, len(self._tokens)
        return added

    def finish(self) -> str:
        """What was held back, with a sign in the place of what is no letter."""
        added = self._added()
        self._start = self._told = len(self._tokens)
        return added

    def _added(self) -> str:
        before = self._decode(self._tokens[self._start : self._told])
        return self._decode(self._tokens[self._start :])[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def with_texts(records: Sequence[TokenRecord], tokenizer: Any) -> list[TokenRecord]:
    """The same records, with what each token adds to its row's text."""
    rows: dict[int, TokenTexts] = {}
    last: dict[int, int] = {}
    told: list[TokenRecord] = []
    for record in records:
        texts = rows.setdefault(record.row, TokenTexts(tokenizer))
        last[record.row] = len(told)
        told.append(replace(record, text=texts.add(record.token)))
    for row, index in last.items():
        told[index] = replace(told[index], text=(told[index].text or "") + rows[row].finish())
    return told
