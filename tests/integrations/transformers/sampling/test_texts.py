"""Texts of tokens, where letters take several."""

import dataclasses

import pytest

from gibbsian.integrations.transformers.sampling import TokenTexts, with_texts
from gibbsian.sampling import TokenRecord
from tests.experiments.inspection.small_models import _tokenizer

RECORD = TokenRecord(
    row=0,
    step=0,
    token=0,
    text=None,
    entropy=1.0,
    varentropy=1.0,
    temperature=1.0,
    zeta=0.0,
    kept=1,
    surprisal=1.0,
    action="draw",
    branch="draw",
)


@pytest.mark.parametrize("text", ["It is — a \U0001f9ea!\n", "naïve", " two  spaces "])
def test_the_texts_of_tokens_make_the_text(text: str) -> None:
    tokenizer = _tokenizer(special=False)
    texts = TokenTexts(tokenizer)
    told = [texts.add(token) for token in tokenizer(text).input_ids]
    assert texts.finish() == ""
    assert "".join(told) == text
    assert all("\ufffd" not in part for part in told)
    assert told[0] == text[0]


def test_half_a_letter_comes_last() -> None:
    tokenizer = _tokenizer(special=False)
    *tokens, _ = tokenizer("so —").input_ids
    records = [
        dataclasses.replace(RECORD, row=row, step=i, token=token)
        for row in range(2)
        for i, token in enumerate(tokens)
    ]
    told = with_texts(records, tokenizer)
    for row in range(2):
        assert "".join(r.text for r in told if r.row == row) == "so \ufffd"
