"""The compiled solver takes the reference's steps."""

import pytest
import torch

from gibbsian.sampling.filters import TargetEntropy, target_entropy
from tests.sampling.cases import rows
from tests.tolerances import TEMPERATURE_ROUNDINGS


@pytest.mark.parametrize("states", [1, 300, 20_000])
@pytest.mark.parametrize("target", [0.0, 0.5, 3.0, 12.0])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_temperatures_are_the_reference_s(states, target, scale, monkeypatch):
    logits = rows(40, max(states, 8), scale=scale)[:, :states]
    solver = TargetEntropy(entropy=target, coldest=0.1, hottest=10.0)
    actual = solver.temperature(logits)
    monkeypatch.setattr(target_entropy, "runs_on_cpu_kernels", lambda *_: False)
    expected = solver.temperature(logits)
    torch.testing.assert_close(actual, expected, rtol=TEMPERATURE_ROUNDINGS, atol=0.0)
