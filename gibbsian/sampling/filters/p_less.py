r"""P-less: a cut at the Rényi entropy of order two, with no parameter to choose."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gibbsian.sampling.filters.base import Filter
from gibbsian.sampling.filters.cutting import cut, kept


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PLess(Filter):
    r"""Tokens with $p_i \ge \sum_j p_j^2 = e^{-H_2}$, the probability that two draws agree.

    References:
        Tan et al. 2025, p-less sampling: a robust hyperparameter-free approach for LLM decoding.
    """

    def _filtered(self, rows: Tensor) -> Tensor:
        probs = rows.softmax(dim=-1)
        collision = torch.linalg.vecdot(probs, probs).unsqueeze(-1)
        # the largest is never below the mean, but for rounding
        return cut(rows, kept(probs, torch.minimum(collision, probs.amax(dim=-1, keepdim=True))))
