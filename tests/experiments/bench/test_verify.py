import math

import pytest
import torch

from gibbsian.experiments.bench.case import Case, Operation
from gibbsian.experiments.bench.verify import (
    SAMPLED_ROWS,
    call_for_check,
    largest,
    relative_error,
    row_error,
    sampled_rows,
    verify,
)
from tests.experiments.bench import small_cases as small


def judge(case, contender, tensors):
    operation = contender.prepare(tensors)
    results = call_for_check(case, contender, operation)
    return verify(case, contender, operation, tensors, results)


def check(prepare, mode="forward", **options):
    contender = small.contender("it", prepare, **options)
    case = small.case(contender, mode=mode, ratios=())
    tensors = case.fresh_tensors()
    return judge(case, contender, tensors)


@pytest.mark.parametrize("mode", ["forward", "gradients"])
def test_what_is_right_passes(mode):
    found = check(small.right, mode)
    assert found.passed
    assert 0 < found.error < 1e-6


@pytest.mark.parametrize(
    ("prepare", "mode"),
    [
        (small.wrong, "forward"),
        (small.wrong, "gradients"),
        (small.not_a_number, "forward"),
        (small.not_a_number, "gradients"),
        (small.zeros, "forward"),
    ],
)
def test_what_is_wrong_does_not(prepare, mode):
    assert not check(prepare, mode).passed


def test_a_wrong_gradient_is_seen_where_gradients_are_timed():
    assert check(small.wrong_backward).passed
    assert not check(small.wrong_backward, "gradients").passed


def test_without_a_truth_results_have_to_be_finite_and_not_zero():
    assert check(small.right, reference=None).passed
    assert not check(small.not_a_number, reference=None).passed
    assert not check(small.zeros, reference=None).passed


def test_rows_include_the_ends():
    rows = sampled_rows(1000)
    assert rows[0] == 0
    assert rows[-1] == 999
    assert SAMPLED_ROWS - 2 <= len(rows) <= SAMPLED_ROWS
    assert sampled_rows(1).tolist() == [0]
    assert sampled_rows(3).tolist() == [0, 1, 2]


def test_the_error_is_relative_to_the_largest_true_value():
    truth = torch.tensor([0.0, 4.0])
    assert relative_error(torch.tensor([1.0, 4.0]), truth) == 0.25
    assert torch.tensor(relative_error(torch.tensor([torch.nan, 4.0]), truth)).isnan()


def test_a_late_causal_row_is_not_excused_by_the_first():
    truth = torch.tensor([[4.0, 1.0], [0.1, 0.05]])
    off = truth + torch.tensor([[0.0, 0.0], [0.01, 0.0]])
    assert row_error(off, truth, -2) == pytest.approx(0.1)
    assert row_error(off[:, 0], truth[:, 0], -1) == pytest.approx(0.1)
    # nothing but roundings: relative to a hundredth of the largest
    tiny = torch.tensor([[4.0], [0.0]])
    assert row_error(tiny + torch.tensor([[0.0], [1e-4]]), tiny, -2) == pytest.approx(2.5e-3)


class _LastGradientNaN(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensors
        return gradient * y, gradient * x * float("nan")


def test_a_nan_in_the_last_gradient_alone_is_seen():
    def tensors(size):
        return {"x": torch.ones(4, size), "y": torch.ones(4, size)}

    def prepare(given):
        return Operation(
            call=lambda: (_LastGradientNaN.apply(given["x"], given["y"]),), leaves=given
        )

    def truth(given, rows):
        return ((given["x"] * given["y"])[rows],)

    contender = small.contender("it", prepare, reference=truth)
    case = Case(
        name="product-3", group="", size=3, tensors=tensors, contenders=(contender,),
        mode="gradients", differentiated=("x", "y"),
    )  # fmt: skip
    found = judge(case, contender, case.fresh_tensors())
    assert math.isnan(found.error)
    assert not found.passed
    assert math.isnan(largest([0.0, 1.0, math.nan]))


def test_gradients_of_some_rows_are_compared_in_full():
    """The gradient of the keys sums over queries: only the sampled ones may count on both sides."""
    from gibbsian.experiments.bench import peers
    from gibbsian.experiments.bench.references import attention_rows
    from gibbsian.experiments.bench.tensors import attention_tensors

    make = attention_tensors(heads=2, head_dim=8, score_std=1.0)
    for is_causal in (False, True):
        contender = small.contender(
            "sdpa", peers.sdpa(is_causal=is_causal), reference=attention_rows(is_causal=is_causal)
        )
        case = Case(
            name="a-100", group="", size=100, tensors=make, contenders=(contender,),
            mode="gradients", differentiated=("query", "key", "value"),
        )  # fmt: skip
        tensors = case.fresh_tensors()
        assert judge(case, contender, tensors).passed
        other = small.contender(
            "sdpa", peers.sdpa(is_causal=is_causal),
            reference=attention_rows(is_causal=not is_causal),
        )  # fmt: skip
        assert not judge(case, other, tensors).passed
