"""A sum that narrow floating point can be trusted with."""

from torch import Tensor

_BLOCK = 256


def row_sum(values: Tensor) -> Tensor:
    """Sum over the last dimension (kept, with size 1), block by block.

    A running sum of one large and 1e5 equal small values rounds each addition the same way, which
    costs float32 up to 1e-5 of the total. Here no partial sum has more than 256 addends (blocks,
    then blocks of blocks): the error stays below 1e-6 for 1e6 states.
    """
    whole = values.shape[-1] - values.shape[-1] % _BLOCK
    rest = values[..., whole:].sum(dim=-1, keepdim=True)
    if whole == 0:
        return rest
    blocks: Tensor = values[..., :whole].unflatten(-1, (-1, _BLOCK)).sum(dim=-1)
    return row_sum(blocks) + rest
