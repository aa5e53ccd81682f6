"""Copies of a cache's rows are whole, cheap, and nobody else's."""

import copy

import pytest
import torch
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
    StaticLayer,
)

from gibbsian._errors import UnsupportedModelError
from gibbsian.integrations.transformers.sampling.forks import _copied

ROWS = 8


def states(length=5):
    return torch.randn(ROWS, 2, length, 3)


def dynamic():
    """A cache with every layer that can be copied, past the end of a window."""
    indexed = DynamicIndexedLayer()
    cache = DynamicCache()
    cache.layers = [DynamicLayer(), DynamicSlidingWindowLayer(sliding_window=4), indexed]
    for number in range(len(cache.layers)):
        cache.update(states(), states(), number)
    indexed.update_indexer(torch.randn(ROWS, 5, 3))
    return cache


def kept(cache):
    """All tensors of its rows."""
    found = [x for layer in cache.layers for x in (layer.keys, layer.values)]
    return [*found, cache.layers[-1].indexer_keys]


def test_chosen_rows_are_copied_and_no_other(monkeypatch):
    cache, index = dynamic(), torch.tensor([5, 5])
    before, whole = kept(cache), [x.clone() for x in kept(cache)]
    monkeypatch.setattr(copy, "deepcopy", lambda *_: pytest.fail("all rows were copied"))
    mine = _copied("past_key_values", cache, index, ROWS)
    assert all(torch.equal(x, y[index]) for x, y in zip(kept(mine), whole, strict=True))
    # written further, the copy leaves the original alone
    for number in range(3):
        mine.update(states(1)[:2], states(1)[:2], number)
    mine.layers[-1].update_indexer(torch.randn(2, 1, 3))
    assert [mine.get_seq_length(i) for i in range(3)] == [6, 6, 6]
    assert [cache.get_seq_length(i) for i in range(3)] == [5, 5, 5]
    for x, same, value in zip(kept(cache), before, whole, strict=True):
        assert x is same
        assert torch.equal(x, value)


class More(DynamicCache):
    """Keeps something of every row beside its layers, and writes to it in place."""

    def __init__(self):
        super().__init__()
        self.more = [torch.arange(ROWS)]

    def batch_select_indices(self, indices):
        super().batch_select_indices(indices)
        self.more[0] = self.more[0][indices]


def test_a_cache_that_keeps_more_is_copied_with_it():
    cache = More()
    cache.update(states(), states(), 0)
    mine = _copied("past_key_values", cache, torch.tensor([5, 2]), ROWS)
    assert mine.more[0].tolist() == [5, 2]
    assert cache.more[0].tolist() == list(range(ROWS))


class Unknown(DynamicLayer):
    """Its states may have rows that `batch_select_indices` knows nothing of."""


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (LinearAttentionAndFullAttentionLayer, {}),
        (LinearAttentionAndSlidingWindowAttentionLayer, {"sliding_window": 4}),
        (StaticLayer, {"max_cache_len": 8}),
        (Unknown, {}),
    ],
)
def test_what_would_be_copied_in_part_is_refused(kind, options):
    layer = kind(**options)
    layer.update(states(), states())
    if isinstance(layer, LinearAttentionLayer):
        layer.update_conv_state(torch.randn(ROWS, 4, 3))
    with pytest.raises(UnsupportedModelError, match="cannot be copied row by row"):
        _copied("past_key_values", Cache(layers=[layer]), torch.tensor([1, 1, 1]), ROWS)
