"""The edge rules: which states take part, and what a wrong argument is told."""

import pytest
import torch

from gibbsian._errors import ArgumentError, GibbsianError
from gibbsian.numerics.masked import check_finite, present_states, shifted_scores, working_dtype


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_works_in_float32(dtype, expected):
    assert working_dtype(torch.zeros(2, dtype=dtype)) == expected


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_scores_must_be_floating_point(dtype):
    with pytest.raises(ArgumentError, match=r"`scores` must be floating-point, got torch\.\w+"):
        working_dtype(torch.zeros(2, dtype=dtype))


def test_absent_states_are_masked_or_minus_infinity_and_masks_broadcast():
    scores = torch.tensor([[0.0, -torch.inf, 1.0], [torch.nan, 2.0, torch.inf]])
    mask = torch.tensor([[True], [True]])
    expected = torch.tensor([[True, False, True], [True, True, True]])
    assert torch.equal(present_states(scores, mask), expected)
    assert not present_states(scores, torch.zeros(3, dtype=torch.bool)).any()


@pytest.mark.parametrize(
    ("scores", "mask", "dim", "message"),
    [
        (torch.tensor(1.0), None, -1, "`dim` must name a dimension"),
        (torch.zeros(2, 3), None, 2, r"`dim` .* got dim=2 for shape \(2, 3\)"),
        (torch.zeros(2, 3), torch.ones(2, 3), -1, r"`mask` must be boolean .* got torch.float32"),
        (torch.zeros(2, 3), torch.ones(2, dtype=torch.bool), -1, r"`mask` must broadcast .*\(2,\)"),
        (torch.zeros(3), torch.ones(2, 3, dtype=torch.bool), -1, r"`mask` must broadcast"),
        (
            torch.zeros(3, device="meta"),
            torch.ones(3, dtype=torch.bool),
            -1,
            r"`mask` must be on the device of `scores` \(meta\), got cpu",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(scores, mask, dim, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        present_states(scores, mask, dim)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, GibbsianError)
    assert isinstance(caught.value, ValueError)


def test_check_finite_points_at_the_first_bad_score_and_ignores_masked_ones():
    scores = torch.tensor([[0.0, -torch.inf], [torch.nan, torch.inf]])
    with pytest.raises(
        ArgumentError, match=r"got 2 NaN or \+inf value\(s\), the first .* \(1, 0\)"
    ):
        check_finite(scores)
    check_finite(scores, torch.tensor([[True, True], [False, False]]))
    check_finite(scores[:1])


def test_shifted_scores_of_ordinary_empty_and_sizeless_rows():
    scores = torch.tensor([[1.0, 3.0, 9.0], [5.0, 5.0, 5.0]])
    present = torch.tensor([[True, True, False], [False, False, False]])
    shifted, maximum = shifted_scores(scores, present)
    assert torch.equal(shifted, torch.tensor([[-2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert torch.equal(maximum, torch.tensor([[3.0], [0.0]]))
    shifted, maximum = shifted_scores(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool))
    assert shifted.shape == (2, 0)
    assert torch.equal(maximum, torch.zeros(2, 1))
