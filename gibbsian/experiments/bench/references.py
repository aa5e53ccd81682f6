"""The truth in float64, for some rows of a problem.

Each maker returns a `Reference`. Attention rows are written as the definition says, scores
materialised; the fast forms have no part in them.
"""

import math

import torch
from torch import Tensor

from gibbsian.attention import lln_attention, lln_diag_attention
from gibbsian.experiments.bench.case import Outputs, Reference, Tensors
from gibbsian.normalizers import entmax
from gibbsian.normalizers.schedules import Schedule
from gibbsian.statistics import GibbsStatistics, gibbs_statistics


def entmax_rows(zeta: float | None = None) -> Reference:
    """Entmax of rows with their own alpha, or all with one zeta."""

    def reference(tensors: Tensors, rows: Tensor) -> Outputs:
        sparsity: float | Tensor = tensors["alpha"][rows] - 1 if zeta is None else zeta
        return (entmax(tensors["scores"][rows], sparsity),)

    return reference


def attention_rows(
    schedule: Schedule | None = None, *, is_causal: bool = False, detach_statistics: bool = False
) -> Reference:
    """Attention with the sparsities of a schedule; softmax attention without one."""

    def reference(tensors: Tensors, rows: Tensor) -> Outputs:
        scores, mask = _scores(tensors, rows, is_causal)
        zeta: float | Tensor = 0.0
        if schedule is not None:
            seen = scores.detach() if detach_statistics else scores
            zeta = schedule(gibbs_statistics(seen, mask=mask)).unsqueeze(-1)
        return (entmax(scores, zeta, mask=mask) @ tensors["value"],)

    return reference


def statistics_rows(*, is_causal: bool = False) -> Reference:
    """Entropy, varentropy and log Z of the rows."""

    def reference(tensors: Tensors, rows: Tensor) -> Outputs:
        scores, mask = _scores(tensors, rows, is_causal)
        return statistics_outputs(gibbs_statistics(scores, mask=mask))

    return reference


def lln_rows(*, is_causal: bool = False, block_size: int | None = None) -> Reference:
    """LLN attention, or with a block size LLN+Diag: all rows, in the linear form of plain torch.

    That it is the definition's is what the tests of the package hold.
    """

    def reference(tensors: Tensors, rows: Tensor) -> Outputs:
        q, k, v = (tensors[name] for name in ("query", "key", "value"))
        output = (
            lln_attention(q, k, v, is_causal=is_causal)
            if block_size is None
            else lln_diag_attention(q, k, v, is_causal=is_causal, block_size=block_size)
        )
        return (output[..., rows, :],)

    return reference


def statistics_outputs(statistics: GibbsStatistics) -> Outputs:
    """What is compared of the statistics, each (batch, heads, queries)."""
    return (statistics.entropy, statistics.varentropy, statistics.log_partition)


def _scores(tensors: Tensors, rows: Tensor, is_causal: bool) -> tuple[Tensor, Tensor | None]:
    query, key = tensors["query"][..., rows, :], tensors["key"]
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if not is_causal:
        return scores, None
    return scores, torch.arange(key.shape[-2]) <= rows.unsqueeze(-1)
