"""The checks and conventions that every attention shares."""

import pytest
import torch

from gibbsian._errors import ArgumentError
from gibbsian.attention.inputs import causal_mask, checked_inputs
from tests.attention.cases import inputs
from tests.tolerances import assert_same

QUERY, KEY, VALUE = inputs(keys=9)

WRONG = {
    "three dimensions": (
        (QUERY[0], KEY, VALUE, {}),
        r"`query` must have 4 dimensions .* got shape \(4, 7, 8\). .*unsqueeze",
    ),
    "integers": (
        (QUERY.long(), KEY.long(), VALUE.long(), {}),
        r"`query` must be a floating-point tensor, got torch.int64",
    ),
    "mixed dtypes": (
        (QUERY, KEY, VALUE.double(), {}),
        r"`value` must have the dtype of `query` \(torch.float32\), got torch.float64. .*`.to",
    ),
    "mixed devices": (
        (QUERY, KEY.to("meta"), VALUE, {}),
        r"`key` must be on the device of `query` \(cpu\), got meta. Move it",
    ),
    "head_dim": (
        (QUERY, KEY[..., :7], VALUE, {}),
        r"`query` and `key` must have the same head_dim > 0, got 8 and 7",
    ),
    "no head_dim": (
        (QUERY[..., :0], KEY[..., :0], VALUE, {}),
        r"same head_dim > 0, got 0 and 0",
    ),
    "value length": (
        (QUERY, KEY, VALUE[:, :, :8], {}),
        r"`value` must have the batch, heads and length of `key` \(2, 4, 9\), got \(2, 4, 8\)",
    ),
    "batch": (
        (QUERY, KEY[:1], VALUE[:1], {}),
        r"`key` must have the batch size of `query` \(2\), got 1. .*`.expand`",
    ),
    "heads": (
        (QUERY, KEY[:, :2], VALUE[:, :2], {}),
        r"`key` must have the heads of `query` \(4\), got 2. Pass `enable_gqa=True`",
    ),
    "heads that do not divide": (
        (QUERY, KEY[:, :3], VALUE[:, :3], {"enable_gqa": True}),
        r"`key` must have a number of heads that divides `query`'s \(4\), got 3",
    ),
    "no key heads": (
        (QUERY, KEY[:, :0], VALUE[:, :0], {"enable_gqa": True}),
        r"divides `query`'s \(4\), got 0",
    ),
    "float mask": (
        (QUERY, KEY, VALUE, {"mask": torch.zeros(7, 9)}),
        r"`mask` must be boolean with True = may attend, got torch.float32. .*`mask == 0`",
    ),
    "mask elsewhere": (
        (QUERY, KEY, VALUE, {"mask": torch.ones(9, dtype=torch.bool, device="meta")}),
        r"`mask` must be on the device of `query` \(cpu\), got meta",
    ),
    "padding mask": (
        (QUERY, KEY, VALUE, {"mask": torch.ones(2, 9, dtype=torch.bool)}),
        r"`mask` must broadcast to .* \(2, 4, 7, 9\), got \(2, 9\). .*`mask\[:, None, None, :\]`",
    ),
    "mask with five dimensions": (
        (QUERY, KEY, VALUE, {"mask": torch.ones(1, 1, 1, 1, 9, dtype=torch.bool)}),
        r"`mask` must broadcast to .* got \(1, 1, 1, 1, 9\)",
    ),
    "dropout": (
        (QUERY, KEY, VALUE, {"dropout_p": -0.1}),
        r"`dropout_p` must lie in \[0, 1\), got -0.1. Give 0 in evaluation",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_name_argument_rule_value_and_way_out(case):
    (query, key, value, options), message = WRONG[case]
    with pytest.raises(ArgumentError, match=message) as raised:
        checked_inputs(query, key, value, **options)
    assert "\n" not in str(raised.value)


def test_causal_mask_is_aligned_at_the_top_left():
    wide = causal_mask(2, 3, QUERY.device)
    assert wide.tolist() == [[True, False, False], [True, True, False]]
    tall = causal_mask(3, 2, QUERY.device)
    assert tall.tolist() == [[True, False], [True, True], [True, True]]


def test_grouping_copies_nothing():
    call = checked_inputs(QUERY, KEY[:, :2], VALUE[:, :2], enable_gqa=True)
    assert call.group == 2
    grouped = call.grouped(QUERY)
    assert grouped.shape == (2, 2, 14, 8)
    assert grouped.data_ptr() == QUERY.data_ptr()
    assert torch.equal(call.ungrouped(grouped), QUERY)


def test_scores():
    call = checked_inputs(QUERY, KEY[:, :2], VALUE[:, :2], enable_gqa=True, is_causal=True)
    expected = QUERY @ KEY[:, [0, 0, 1, 1]].mT / 8**0.5
    visible = causal_mask(7, 9, QUERY.device)
    assert_same(call.scores(), expected.masked_fill(~visible, -torch.inf))


def test_scores_of_half_precision_are_not_rounded():
    query, key = QUERY.bfloat16(), KEY.bfloat16()
    scores = checked_inputs(query, key, VALUE.bfloat16()).scores()
    assert scores.dtype == torch.float32
    assert_same(scores, query.float() @ key.float().mT / 8**0.5)


def test_only_keys_absent_for_every_query_of_their_head_are_replaced():
    mask = torch.ones(2, 4, 7, 9, dtype=torch.bool)
    mask[:, :2, :, 3] = False  # the heads of key head 0
    mask[:, 2, :, 4] = False  # one of the two of key head 1
    mask[:, :, 1:, 5] = False  # seen by query 0
    call = checked_inputs(QUERY, KEY[:, :2], VALUE[:, :2], mask=mask, enable_gqa=True)
    replaced = (call.key == 0).all(dim=-1)
    assert replaced.nonzero().tolist() == [[0, 0, 3], [1, 0, 3]]
    assert torch.equal((call.value == 0).all(dim=-1), replaced)
