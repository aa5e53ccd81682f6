"""Names shared by the annotations.

Axes: ``*batch`` rows of independent distributions, ``states`` the states of one distribution (keys
of an attention row, tokens of a vocabulary), ``queries``, ``keys``, ``heads``, ``head_dim``.
"""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

Scores: TypeAlias = Float[Tensor, "..."]
"""Scores with their states along any one dimension."""

Mask: TypeAlias = Bool[Tensor, "..."]
"""True = the state is present (may be attended)."""

PerRow: TypeAlias = Float[Tensor, "*batch"]
"""One number a row."""

RowFunction: TypeAlias = Callable[[Tensor], Tensor]
