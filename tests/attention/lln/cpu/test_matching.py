"""Scales in one step are those of the torch operators."""

import pytest
import torch

from gibbsian.attention.lln.cpu.matching import match_at_once
from gibbsian.attention.lln.matching import matched_scales
from tests.tolerances import assert_same


@pytest.mark.parametrize("factor", [1.0, 0.5])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_scales_in_one_step(shape, factor):
    query, key = torch.rand(shape) * 3, torch.rand(shape)
    if query.numel() > 1:
        query.view(-1)[0], key.view(-1)[1] = 0.0, 0.0  # below the floor
    expected = matched_scales(query * factor**2, key, head_dim=64)
    for one, other in zip(match_at_once(query, key, factor, 64), expected, strict=True):
        assert one.shape == other.shape
        assert_same(one, other)
