"""Which masks have a linear form: honoured exactly, or refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibbsian.attention.inputs import checked_inputs
from gibbsian.attention.lln import linear_mask

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
    # the exception: a row opened wholly where it should see nothing
    opened = mask.all(dim=-1) & ~found.any(dim=-1)
    assert torch.equal(found[~opened], mask[~opened])


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


def test_left_padding_may_open_the_rows_that_see_nothing():
    present = torch.tensor([False, False, True, True, True, True])
    mask = present & torch.ones(6, 6, dtype=torch.bool).tril()
    opened = mask.clone()
    opened[:2] = True
    assert torch.equal(dense(split(opened), 6)[0, 0], mask)


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
