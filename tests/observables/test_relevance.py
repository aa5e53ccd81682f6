"""Leave-one-out relevance against rows that are solved again without each key."""

import numpy as np
import pytest
import torch

from gibbsian import entmax_attention
from gibbsian._errors import ArgumentError
from gibbsian.observables import blocks, relevance
from gibbsian.observables.relevance import leave_one_out
from tests.oracles import relevance as oracle
from tests.tolerances import assert_identity


def inputs(*, batch=2, heads=4, key_heads=2, queries=6, keys=9, spread=1.0):
    query = torch.randn(batch, heads, queries, 5, dtype=torch.float64) * spread
    key, value = torch.randn(2, batch, key_heads, keys, 5, dtype=torch.float64).unbind(0)
    return query, key, value[..., :3]


def one_at_a_time(query, key, value, zeta, seen):
    scores = oracle.scores(query, key, seen)
    zetas = np.broadcast_to(zeta, scores.shape[:3])
    group = query.shape[1] // key.shape[1]
    result = np.zeros(scores.shape)
    for b, h, i in np.ndindex(*scores.shape[:3]):
        values = value[b, h // group].numpy()
        result[b, h, i] = oracle.leave_one_out(scores[b, h, i], values, zetas[b, h, i])
    return torch.from_numpy(result)


@pytest.mark.parametrize("zeta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("spread", [1.0, 20.0])
def test_against_rows_solved_again(zeta, spread):
    query, key, value = inputs(spread=spread)
    mask = torch.rand(2, 1, 6, 9) > 0.3
    mask[0, 0, 2] = False
    mask[1, 0, 3] = torch.arange(9) == 5  # deleted, it leaves nothing
    found = leave_one_out(query, key, value, zeta=zeta, mask=mask, enable_gqa=True)
    assert_identity(found, one_at_a_time(query, key, value, zeta, mask.expand(2, 4, 6, 9).numpy()))
    output = entmax_attention(query, key, value, zeta=zeta, mask=mask, enable_gqa=True)
    assert_identity(found[1, :, 3, 5], output[1, :, 3].norm(dim=-1))
    assert (found[~mask.expand(2, 4, 6, 9)] == 0).all()


def test_rows_of_different_sparsity(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_NUMBERS", 150)  # two rows at a time
    monkeypatch.setattr(relevance, "_BLOCK_NUMBERS", 30)  # several chunks
    query, key, value = inputs()
    zeta = torch.rand(2, 4, 6, dtype=torch.float64)
    zeta[:, 1] = zeta[0, 0, 0] = 0.0
    found = leave_one_out(query, key, value, zeta=zeta, is_causal=True, enable_gqa=True)
    seen = np.tril(np.ones((2, 4, 6, 9), dtype=bool))
    assert_identity(found, one_at_a_time(query, key, value, zeta.numpy(), seen))


def test_one_key_that_takes_all_the_weight():
    """1 - p rounds to 0, the second key alone decides the output without the first."""
    query = torch.tensor([[[[1.0]]]], dtype=torch.float64)
    key = torch.tensor([[[[900.0], [0.0], [-1000.0]]]], dtype=torch.float64)
    value = torch.tensor([[[[1.0], [5.0], [7.0]]]], dtype=torch.float64)
    found = leave_one_out(query, key, value, scale=1.0)
    assert_identity(found.flatten(), torch.tensor([4.0, 0.0, 0.0]))


@pytest.mark.parametrize(("queries", "keys"), [(0, 5), (5, 0)])
def test_without_queries_or_keys(queries, keys):
    query, key, value = inputs(queries=queries, keys=keys)
    assert leave_one_out(query, key, value, enable_gqa=True).shape == (2, 4, queries, keys)


def test_zeta_out_of_range():
    with pytest.raises(ArgumentError, match=r"`zeta` must lie in \[0, 1\]"):
        leave_one_out(*inputs(), zeta=1.2, enable_gqa=True)


def test_autocast_changes_nothing():
    query, key, value = (tensor.float() for tensor in inputs())
    outside = leave_one_out(query, key, value, enable_gqa=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(leave_one_out(query, key, value, enable_gqa=True), outside)
