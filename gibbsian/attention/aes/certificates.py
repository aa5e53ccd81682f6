r"""How far entropy and varentropy can be off when scores are known up to an error only.

On the way from the known scores $\hat x$ to the true ones, $x_t = \hat x + t\delta$ with
$|\delta_j| \le e_j \le e$, no probability grows by more than $g^2 = e^{2e}$. Hence

$$\sigma_\delta \le g\,r, \quad r = \Big(\sum_j \hat p_j e_j^2\Big)^{1/2}, \qquad
  \hat\sigma/g - g\,r \le \sigma_x \le g(\hat\sigma + r), \qquad
  |\Delta S| \le \max_t \sigma_x \sigma_\delta,$$

the last because $dS = -\mathrm{Cov}(x, \delta)\,dt$.
"""

import torch
from torch import Tensor


def certified_errors(varentropy: Tensor, square: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    r"""Bounds of the errors of the entropy and of the square root of the varentropy, nats.

    Args:
        varentropy: of the known scores.
        square: $r^2$, the mean of the squared errors' bounds under the known probabilities.
        error: the largest bound of an error.
    """
    growth = error.exp()
    deviation = varentropy.sqrt()
    spread = torch.minimum(error, growth * square.sqrt())
    most = growth * deviation + spread
    return most * spread, torch.maximum(most - deviation, deviation * (1 - 1 / growth) + spread)
