"""The block sum, where a running sum would round every addend the same way."""

import pytest
import torch

from gibbsian.numerics.summation import row_sum
from tests.tolerances import NORMALISATION_ERROR, assert_same


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1000, 5000])
def test_row_sum_equals_the_sum_for_odd_sizes_and_strides(n):
    values = torch.rand(3, n, 2).movedim(1, -1)
    assert_same(row_sum(values), values.sum(dim=-1, keepdim=True))


@pytest.mark.parametrize("n", [10**4, 10**5, 10**6])
@pytest.mark.parametrize("heavy", [1, 3, 30])
@pytest.mark.parametrize("small", [1e-3, 3.3e-5, 1e-6, 4.3458e-7])
def test_few_large_and_many_small_equal_addends(n, heavy, small):
    values = torch.full((n,), small)
    values[:heavy] = 1 / heavy
    exact = float(values.double().sum())
    assert abs(float(row_sum(values)) / exact - 1) < NORMALISATION_ERROR
