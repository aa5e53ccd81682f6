r"""Random numbers that depend on nothing but their row's seed and step.

A counter-based stream: the number for (seed, step, draw) is a hash of the three, with SplitMix64's
finaliser for step and draw and once more with the seed. No state is kept, so a row draws the
same in any batch, at any place in it, and after any other row has come or gone.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_DRAW = _signed(0xD1B54A32D192ED03)
_MANTISSA = 53


def uniforms(
    seed: Integer[Tensor, "batch"], step: Integer[Tensor, "batch"], draws: int = 1
) -> Float[Tensor, "batch draws"]:
    """Independent uniform numbers in [0, 1), float64, multiples of 2^-53.

    Args:
        seed: int64, one a row.
        step: int64, how many times the row has drawn before.
        draws: how many numbers each row gets; the first ones do not depend on it.
    """
    number = torch.arange(draws, device=seed.device)
    # from 1 on: the hash of 0 is 0, and the first number of seed 0 would be too
    counter = (step.unsqueeze(-1) + 1) * _GOLDEN + number * _DRAW
    word = _mixed(seed.unsqueeze(-1) * _GOLDEN + _mixed(counter))
    return _shifted(word, 64 - _MANTISSA).double() * 2.0**-_MANTISSA


def row_seeds(seed: int, batch_size: int, device: torch.device | str) -> Integer[Tensor, "batch"]:
    """A seed for each row of a batch from one number: row i's depends on i, not on the size."""
    number = torch.arange(batch_size, device=device)
    return _mixed(number * _GOLDEN + _signed(seed & ((1 << 64) - 1)))


def _shifted(word: Tensor, bits: int) -> Tensor:
    """Shift of the word read as unsigned: torch's own copies the sign."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(word: Tensor) -> Tensor:
    word = (word ^ _shifted(word, 30)) * _MIX_1
    word = (word ^ _shifted(word, 27)) * _MIX_2
    return word ^ _shifted(word, 31)
