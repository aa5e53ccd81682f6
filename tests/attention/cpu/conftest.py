"""What every test of the compiled attentions needs."""

import numpy as np
import pytest

pytest.importorskip("numba")

_GUARD = 256
"""Numbers before and behind every array: a register tile too many would write there."""
_CANARY = 12345


@pytest.fixture(autouse=True)
def _guarded_arrays_full_of_nan(monkeypatch):
    """What a kernel reads or returns before it has written it shows, and what it writes beside."""
    uninitialised = np.empty
    rooms = []

    def guarded(shape, dtype=float, *args, **kwargs):
        kind = np.dtype(dtype)
        if kind not in (np.float32, np.int32):
            return uninitialised(shape, dtype, *args, **kwargs)
        size = int(np.prod(shape))
        room = np.full(size + 2 * _GUARD, _CANARY, kind)
        rooms.append(room)
        array = room[_GUARD : _GUARD + size].reshape(shape)
        array.fill(np.nan if kind == np.float32 else 0)
        return array

    monkeypatch.setattr(np, "empty", guarded)
    yield
    for room in rooms:
        assert (room[:_GUARD] == _CANARY).all()
        assert (room[-_GUARD:] == _CANARY).all()
