"""Windows of SmolLM2's next-token distributions."""

import pytest
import torch

from gibbsian.experiments.claims import next_tokens
from gibbsian.experiments.claims.heads import language_model
from gibbsian.experiments.claims.next_tokens import POSITIONS, READ, WRITTEN, passages, read_window

pytestmark = pytest.mark.real


def test_windows_hold_what_the_model_says_of_the_tokens_that_follow():
    passage = passages(3, 0, 0)[1]
    window = read_window(passage)
    assert window.source == READ
    with torch.no_grad():
        logits = language_model()(torch.tensor([passage.tokens])).logits[0]
    for i in (0, 17, POSITIONS - 1):
        at = len(passage.tokens) - POSITIONS - 1 + i
        order = logits[at].argsort(descending=True)
        assert order[window.rank[i]] == passage.tokens[at + 1]
        torch.testing.assert_close(window.logits[i], logits[at][order])


def test_passages_depend_on_the_seed_alone(monkeypatch):
    monkeypatch.setattr(next_tokens, "_PROMPTS", ("Hello.",))
    monkeypatch.setattr(next_tokens, "CONTEXT", 2)
    monkeypatch.setattr(next_tokens, "POSITIONS", 4)
    next_tokens._written.cache_clear()
    first = passages(4, 2, 0)
    next_tokens._written.cache_clear()
    assert passages(4, 2, 0) == first
    assert passages(4, 2, 1) != first
    assert [p.source for p in first] == [READ] * 4 + [WRITTEN] * 2
    written = [p.tokens[-7:] for p in first if p.source == WRITTEN]
    assert written[0] != written[1]
    assert min(min(tokens) for tokens in written) >= next_tokens._END_TOKENS
    next_tokens._written.cache_clear()
