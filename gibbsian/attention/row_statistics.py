"""What an attention reports of its rows."""

from torch import Tensor

from gibbsian.attention.base import AttentionStatistics
from gibbsian.statistics import GibbsStatistics


def row_statistics(
    statistics: GibbsStatistics, zeta: Tensor, support_size: Tensor
) -> AttentionStatistics:
    """The reported statistics, detached and in the working precision.

    Args:
        statistics: of the rows before sparsity, each (batch, heads, queries).
        zeta: broadcastable to (batch, heads, queries).
        support_size: (batch, heads, queries), any number type.
    """
    entropy = statistics.entropy.detach()
    return AttentionStatistics(
        entropy=entropy,
        varentropy=statistics.varentropy.detach(),
        zeta=zeta.detach().to(entropy).expand(entropy.shape),
        support_size=support_size.detach().to(entropy),
        num_keys=statistics.num_states.detach(),
    )
