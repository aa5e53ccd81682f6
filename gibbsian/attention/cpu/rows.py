"""The rows of an attention, a tile of scores at a time."""

from torch import Tensor

from gibbsian.attention.cpu.entmax import entmax_attention_op
from gibbsian.attention.cpu.statistics import attention_row_statistics_op
from gibbsian.attention.inputs import AttentionInputs
from gibbsian.attention.rows import Rows
from gibbsian.statistics import GibbsStatistics
from gibbsian.statistics.cpu.row import statistics_of


class StreamedRows(Rows):
    """Compiled, in float32."""

    def __init__(self, inputs: AttentionInputs) -> None:
        self._inputs = inputs

    def statistics(self, *, detach: bool) -> GibbsStatistics:
        """See `Rows`."""
        inputs = self._inputs
        query, key = inputs.query, inputs.key
        if detach:
            query, key = query.detach(), key.detach()
        return statistics_of(
            attention_row_statistics_op(query, key, inputs.mask, inputs.is_causal, inputs.scale)
        )

    def mix(self, zeta: Tensor) -> tuple[Tensor, Tensor]:
        """See `Rows`."""
        inputs = self._inputs
        mixed, _, support_size = entmax_attention_op(
            inputs.query,
            inputs.key,
            inputs.value,
            zeta,
            inputs.mask,
            inputs.is_causal,
            inputs.scale,
        )
        return mixed, support_size
