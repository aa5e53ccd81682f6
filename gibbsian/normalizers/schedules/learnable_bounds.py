"""Bounds under varentropy with learned scale and levels."""

import torch
from torch import Tensor, nn

from gibbsian._errors import ArgumentError
from gibbsian.normalizers.schedules.bounds import VarentropyBounds, levels
from gibbsian.normalizers.schedules.parameters import PerHeadParameters, logit, sigmoid


class LearnableBounds(PerHeadParameters):
    r"""$V_0 = e^a$, $\lambda_{low} = \sigma(b)$, $\lambda_{high} = (1 - \lambda_{low})\,\sigma(c)$.

    The levels cannot cross and stay in [0, zeta_max], whatever a, b and c. A lambda that begins at
    exactly 0 stays there and has no parameter: 0 is how one says that a level does not move.

    Args:
        initial: where they begin.
        num_heads: None = shared by all rows.

    Raises:
        ArgumentError: lambdas that sum to 1 (there the gradient is 0).
    """

    raw_lambda_low: nn.Parameter | None
    raw_lambda_high: nn.Parameter | None

    def __init__(self, initial: VarentropyBounds, *, num_heads: int | None = None) -> None:
        super().__init__(num_heads=num_heads)
        low, high = initial.lambda_low, initial.lambda_high
        if low + high >= 1:
            raise ArgumentError(
                f"`lambda_low` + `lambda_high` must be < 1 to be learned, got {low} + {high}. "
                "At 1 the gradient is 0: lower one of them."
            )
        self.raw_varentropy_scale = self._parameter(
            float(torch.tensor(initial.varentropy_scale, dtype=torch.float64).log())
        )
        self.raw_lambda_low = self._parameter(logit("lambda_low", low)) if low > 0 else None
        self.raw_lambda_high = None
        if high > 0:
            self.raw_lambda_high = self._parameter(logit("lambda_high", high / (1 - low)))

    @property
    def varentropy_scale(self) -> Tensor:
        """Current $V_0$, nats squared: (num_heads,), or () where shared; differentiable."""
        return self._readable(self._current()[0])

    @property
    def lambda_low(self) -> Tensor:
        r"""Current $\lambda_{low}$, likewise."""
        return self._readable(self._current()[1])

    @property
    def lambda_high(self) -> Tensor:
        r"""Current $\lambda_{high}$, likewise."""
        return self._readable(self._current()[2])

    def values(self) -> dict[str, Tensor]:
        """Current `varentropy_scale`, `lambda_low` and `lambda_high`."""
        names = ("varentropy_scale", "lambda_low", "lambda_high")
        return {name: getattr(self, name) for name in names}

    def interval(self, varentropy: Tensor, zeta_max: Tensor) -> tuple[Tensor, Tensor]:
        """Levels `(lower, upper)` in [0, zeta_max], shaped like the varentropy."""
        scale, low, high = (self._for_rows(value, varentropy) for value in self._current())
        return levels(varentropy, zeta_max, scale, low, high)

    def _current(self) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.raw_varentropy_scale
        scale = raw.to(torch.promote_types(raw.dtype, torch.float32)).exp()
        low = torch.zeros_like(scale)
        high = torch.zeros_like(scale)
        if self.raw_lambda_low is not None:
            low = sigmoid(self.raw_lambda_low)
        if self.raw_lambda_high is not None:
            high = (1 - low) * sigmoid(self.raw_lambda_high)
        return scale, low, high
