"""What every test of the compiled attentions needs."""

import numpy as np
import pytest

from tests.attention.guards import Guards

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def _guarded_arrays_full_of_nan(monkeypatch):
    uninitialised = np.empty
    guards = Guards()

    def guarded(shape, dtype=float, *args, **kwargs):
        kind = np.dtype(dtype)
        if kind not in (np.float32, np.int32):
            return uninitialised(shape, dtype, *args, **kwargs)
        return guards.array(shape, kind)

    monkeypatch.setattr(np, "empty", guarded)
    yield
    guards.check()
