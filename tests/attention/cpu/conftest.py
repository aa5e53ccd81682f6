"""What every test of the compiled attentions needs."""

import numpy as np
import pytest

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def _scratch_full_of_nan(monkeypatch):
    """What a kernel reads, or returns, before it has written it shows."""
    uninitialised = np.empty

    def filled(shape, dtype=float, *args, **kwargs):
        array = uninitialised(shape, dtype, *args, **kwargs)
        if np.issubdtype(array.dtype, np.floating):
            array.fill(np.nan)
        elif array.dtype == np.int32:
            array.fill(0)
        return array

    monkeypatch.setattr(np, "empty", filled)
