r"""Entmax: a cut in energy at a level set by the deformed free energy, and new weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.normalizers import entmax
from gibbsian.sampling.filters.base import Filter, RowParameter, check_range, column, in_rows
from gibbsian.sampling.filters.cutting import cut


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EntmaxFilter(Filter):
    r"""Log-probabilities of $p_i = \exp_\zeta(x_i - c)$: tokens with $E_i \ge 1/\zeta - c$ are cut.

    Sampling from it minimises the deformed free energy, docs/derivations/entmax.md#potential.

    Raises:
        ArgumentError: zeta outside [0, 1].
    """

    zeta: RowParameter
    """Sparsity in [0, 1]; 0 is softmax, 1 sparsemax."""

    def __post_init__(self) -> None:
        """Check the range."""
        check_range("zeta", self.zeta, 0.0, 1.0, "0 is softmax, 1 is sparsemax.")

    def _filtered(self, rows: Tensor) -> Tensor:
        zeta = in_rows(column("zeta", self.zeta, rows), rows).clamp(0.0, 1.0)
        probs = entmax(rows, zeta.expand(rows.shape[0], 1))
        support = torch.gt(probs, 0.0, out=torch.empty_like(probs))
        # the logarithm of 0 takes ten times as long as another
        return cut(probs.clamp_min_(torch.finfo(probs.dtype).tiny).log_(), support)
