"""One learned sparsity for each head: the adaptively sparse transformer."""

from typing import Any, ClassVar

from torch import Tensor

from gibbsian._typing import PerRow
from gibbsian.normalizers.schedules.parameters import PerHeadParameters, logit, sigmoid
from gibbsian.statistics import GibbsStatistics


class LearnableConstant(PerHeadParameters):
    r"""$\zeta = \sigma(a)$ with a learned for each head; it does not look at the statistics.

    This is the baseline of Correia et al., whose $\alpha = 1 + \sigma(a)$: what a schedule gains
    by looking at the entropy shows in the difference.

    Args:
        num_heads: None = one sparsity shared by all rows.
        zeta: initial sparsity, strictly between 0 and 1.

    Raises:
        ArgumentError: `zeta` outside (0, 1), or `num_heads` < 1.

    References:
        Correia, Niculae & Martins 2019, Adaptively Sparse Transformers, section 3.3.
    """

    name: ClassVar[str] = "learnable_constant"

    def __init__(self, *, num_heads: int | None = None, zeta: float = 0.5) -> None:
        super().__init__(num_heads=num_heads)
        self._initial = {"zeta": zeta}
        self.raw_zeta = self._parameter(logit("zeta", zeta))

    @property
    def zeta(self) -> Tensor:
        """Current sparsity: (num_heads,), or () where shared; differentiable."""
        return self._readable(sigmoid(self.raw_zeta))

    def values(self) -> dict[str, Tensor]:
        """Current `zeta`."""
        return {"zeta": self.zeta}

    def forward(self, statistics: GibbsStatistics) -> PerRow:
        """The sparsity of its head, for every row."""
        rows = statistics.entropy
        return self._for_rows(sigmoid(self.raw_zeta), rows).expand(rows.shape)

    def options(self) -> dict[str, Any]:
        """The keyword arguments that build it again, with the initial values; JSON-able."""
        return {"num_heads": self.num_heads, **self._initial}

    def extra_repr(self) -> str:
        """Shown by `print(module)`."""
        return f"num_heads={self.num_heads}"
