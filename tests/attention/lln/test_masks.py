"""Which masks have a linear form: honoured exactly, or refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.lln import LinearMask, linear_mask

CPU = torch.device("cpu")


def split(mask, *, queries=6, keys=6, is_causal=False):
    inputs = checked_inputs(
        torch.zeros(2, 3, queries, 4),
        torch.zeros(2, 3, keys, 4),
        torch.zeros(2, 3, keys, 4),
        mask=mask,
        is_causal=is_causal,
    )
    return linear_mask(inputs)


def dense(mask, queries):
    return mask.rows(0, queries, device=CPU)


@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(["top", "bottom", "none"]), st.data())
def test_a_mask_of_padding_and_causality_comes_back(queries, keys, causality, data):
    present = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=2 * keys, max_size=2 * keys))
    ).view(2, 1, 1, keys)
    offset = {"top": 0, "bottom": keys - queries, "none": keys}[causality]
    mask = present & torch.ones(queries, keys, dtype=torch.bool).tril(offset)
    found = split(mask, queries=queries, keys=keys)
    assert torch.equal(dense(found, queries).expand_as(mask), mask)


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_any_mask_is_honoured_or_refused(queries, keys, data):
    bits = data.draw(st.lists(st.booleans(), min_size=queries * keys, max_size=queries * keys))
    mask = torch.tensor(bits).view(queries, keys)
    try:
        found = dense(split(mask, queries=queries, keys=keys), queries)[0, 0]
    except ValueError:
        return
    assert torch.equal(found, mask)


def test_padding_masks_cost_no_dense_mask():
    found = split(torch.tensor([True, False, True, True, True, True])[None, None, None])
    assert found.present.shape == (1, 1, 6)
    assert found.causal_offset is None
    expanded = torch.ones(2, 1, 1, 6, dtype=torch.bool).expand(2, 3, 6, 6)
    assert split(expanded).causal_offset is None


def test_a_dense_causal_mask_without_padding_is_causality_alone():
    found = split(torch.ones(6, 6, dtype=torch.bool).tril())
    assert found.present is None
    assert found.causal_offset == 0


def test_a_mask_broadcast_over_keys():
    found = split(torch.tensor([[True], [False]])[:, None, None])
    assert found.present[:, 0].tolist() == [[True] * 6, [False] * 6]


def test_causality_may_be_said_twice_or_differently():
    causal = torch.ones(3, 6, dtype=torch.bool).tril(3)
    assert split(causal, queries=3).causal_offset == 3
    assert split(causal, queries=3, is_causal=True).causal_offset == 0


def test_more_queries_than_keys_without_causality():
    found = split(torch.ones(5, 1, dtype=torch.bool), queries=5, keys=1)
    assert found.causal_offset is None
    assert dense(found, 5).all()


def test_rows_that_see_everything_are_not_taken_for_padding():
    for rows in ([[1, 1], [1, 0], [1, 1]], [[1, 1, 1], [0, 1, 0], [0, 1, 1]]):
        mask = torch.tensor(rows).bool()
        with pytest.raises(ValueError, match="rows differ in another way"):
            split(mask, queries=3, keys=mask.shape[1])


def test_a_chunk_in_the_middle_of_a_cache_of_fixed_size():
    mask = torch.ones(2, 1, 3, 9, dtype=torch.bool).tril(2)
    mask[1, ..., :2] = False
    found = split(mask, queries=3, keys=9)
    assert found.causal_offset == 2
    assert torch.equal(dense(found, 3), mask)


def test_the_newest_queries_stand_at_the_last_present_keys():
    present = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]]).bool()
    mask = LinearMask(queries=3, keys=6, present=present[:, None])
    assert mask.query_ranks(device=CPU)[:, 0].tolist() == [[1, 2, 3], [-1, 0, 1], [2, 3, 4]]


@pytest.mark.parametrize(
    "mask",
    [
        torch.eye(6, dtype=torch.bool),  # a window of one
        torch.ones(6, 6, dtype=torch.bool).tril() & torch.ones(6, 6, dtype=torch.bool).triu(-2),
        torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool(),  # two packed sequences
        torch.ones(6, 6, dtype=torch.bool).triu(),  # causality backwards
    ],
)
def test_other_masks_are_refused_with_the_way_out(mask):
    with pytest.raises(
        ValueError, match=r"`mask` must be key padding, causal, or both.*Use softmax"
    ):
        split(mask)
