"""What every test of the compiled LLN needs."""

import numpy as np
import pytest
import torch

from tests.attention.guards import Guards

pytest.importorskip("numba")

from gibbsian.attention.lln.cpu import arrays

_KINDS = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.int32: np.dtype(np.int32),
    torch.int64: np.dtype(np.int64),
}


@pytest.fixture(autouse=True)
def _guarded_arrays_full_of_nan(monkeypatch):
    guards = Guards()

    def guarded(*shape, dtype=torch.float32):
        return guards.array(shape, _KINDS[dtype])

    monkeypatch.setattr(arrays, "empty", guarded)
    yield
    guards.check()
