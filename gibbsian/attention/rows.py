"""The rows of an attention, behind the two things that every attention asks of them.

The plain form holds all scores and is differentiable to any order; the compiled one holds a tile of
them at a time.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from gibbsian._dispatch import Backend, runs_on_cpu_kernels
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.normalizers.fused import fused_entmax
from gibbsian.statistics import GibbsStatistics
from gibbsian.statistics.fused import fused_gibbs_statistics


class Rows(ABC):
    """One softmax row of scores for every query, not yet made sparse."""

    @abstractmethod
    def statistics(self, *, detach: bool) -> GibbsStatistics:
        """Statistics of the rows, each (batch, heads, queries).

        Args:
            detach: without a graph.
        """

    @abstractmethod
    def mix(self, zeta: Tensor) -> tuple[Tensor, Tensor]:
        """Values mixed with the weights entmax(scores, zeta).

        Args:
            zeta: (batch, heads, queries).

        Returns:
            The mixed values (batch, heads, queries, value_dim) in the dtype of the query, and the
            number of keys with weight (batch, heads, queries), without a graph.
        """


class MaterializedRows(Rows):
    """Plain torch, with all scores in memory."""

    def __init__(self, inputs: AttentionInputs) -> None:
        self._inputs = inputs
        self._scores = inputs.scores()

    def statistics(self, *, detach: bool) -> GibbsStatistics:
        """See `Rows`."""
        scores = self._scores.detach() if detach else self._scores
        statistics: GibbsStatistics = fused_gibbs_statistics(scores)
        return statistics

    def mix(self, zeta: Tensor) -> tuple[Tensor, Tensor]:
        """See `Rows`."""
        weights = fused_entmax(self._scores, zeta.to(self._scores).unsqueeze(-1))
        return self._inputs.mix(weights), (weights.detach() > 0).sum(dim=-1)


def rows_of(inputs: AttentionInputs, backend: Backend) -> Rows:
    """The rows in the form that `backend` names, or the fastest that can run.

    Raises:
        ArgumentError: an unknown backend.
        BackendUnavailableError: see `gibbsian._dispatch`.
    """
    if not runs_compiled(inputs, backend):
        return MaterializedRows(inputs)
    # numba takes half a second to import: only where it is used
    from gibbsian.attention.cpu.few_queries import FewQueries, suits_few_queries  # noqa: PLC0415
    from gibbsian.attention.cpu.rows import StreamedRows  # noqa: PLC0415

    return FewQueries(inputs) if suits_few_queries(inputs) else StreamedRows(inputs)


def runs_compiled(inputs: AttentionInputs, backend: Backend) -> bool:
    """Whether the rows of this call go to the CPU kernels.

    Raises:
        ArgumentError: an unknown backend.
        BackendUnavailableError: see `gibbsian._dispatch`.
    """
    tensors = (inputs.query, inputs.key, inputs.value)
    obstacles = []
    if inputs.dropout_p > 0:
        obstacles.append("dropout_p is above 0")
    if any(tensor.numel() == 0 for tensor in tensors):
        obstacles.append("there is no query, no key or no channel")
    return runs_on_cpu_kernels(backend, *tensors, obstacles=obstacles)
