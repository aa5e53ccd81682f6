"""Statistics of rows of logits, fast: what a sampler looks at before every token."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._dispatch import Backend, runs_on_cpu_kernels
from gibbsian.numerics.masked import working_dtype
from gibbsian.statistics.fused import fused_gibbs_statistics
from gibbsian.statistics.gibbs import GibbsStatistics


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it untyped
@torch.no_grad()
def row_statistics(
    scores: Float[Tensor, "*batch states"], *, backend: Backend = "auto"
) -> GibbsStatistics:
    """`gibbs_statistics(scores)` along the last dimension, without a graph.

    Args:
        scores: of any floating-point type; -inf marks an absent state.
        backend: "auto", "reference" (plain torch) or "cpu" (compiled kernels); see
            docs/usage/backends.md.

    Returns:
        `GibbsStatistics` (*batch), in float32 or wider: half precision is off by 0.1 nat on 1e5
        states. A row with a NaN or +inf score is NaN.

    Raises:
        ArgumentError: scores not floating-point.
        BackendUnavailableError: the backend asked for cannot run this call.

    Notes:
        Each row's numbers are the same whatever rows it comes with. O(states) a row; the compiled
        kernels read a row twice, from the cache, and write nothing of its size.
    """
    rows = scores.detach().to(working_dtype(scores))
    if not runs_on_cpu_kernels(backend, scores):
        plain: GibbsStatistics = fused_gibbs_statistics(rows)
        return plain
    # numba takes half a second to import: only where it is used
    from gibbsian.statistics.cpu.rows import given_row_statistics  # noqa: PLC0415

    flat = rows.reshape(math.prod(scores.shape[:-1]), scores.shape[-1]).contiguous()
    statistics = given_row_statistics(flat)
    return statistics if scores.dim() == 2 else statistics.reshape(scores.shape[:-1])
