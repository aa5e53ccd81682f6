"""Arrays that show what a kernel reads before it has written it, and what it writes beside them."""

import numpy as np

_GUARD = 256
"""Numbers before and behind every array: a register tile too many would write there."""
_CANARY = 12345


class Guards:
    """Makes arrays full of NaN (integers: 0) inside rooms full of canaries."""

    def __init__(self):
        self._rooms = []

    def array(self, shape, kind):
        size = int(np.prod(shape))
        room = np.full(size + 2 * _GUARD, _CANARY, kind)
        self._rooms.append(room)
        array = room[_GUARD : _GUARD + size].reshape(shape)
        array.fill(np.nan if np.issubdtype(kind, np.floating) else 0)
        return array

    def check(self):
        for room in self._rooms:
            assert (room[:_GUARD] == _CANARY).all()
            assert (room[-_GUARD:] == _CANARY).all()
