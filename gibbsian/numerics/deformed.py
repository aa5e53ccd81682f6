r"""Deformed exponential and logarithm, accurate for every sparsity in [0, 1].

$$\exp_\zeta(u) = [1 + \zeta u]_+^{1/\zeta}, \qquad \exp_0(u) = e^u, \qquad
\log_\zeta(w) = \frac{w^\zeta - 1}{\zeta}, \qquad \log_0 = \log.$$

Everything passes through `log1p` and `expm1`, so that sparsities of 1e-8 lose no digit.
"""

import torch
from torch import Tensor

_SERIES_RADIUS = 0.25
_SERIES_ORDER = 14
_LOG_SERIES_RADIUS = 0.1
_LOG_SERIES_ORDER = 16


def log_of_deformed_exp(u: Tensor, zeta: Tensor) -> Tensor:
    r"""$\log \exp_\zeta(u) = \log(1 + \zeta u)/\zeta$, u at zeta = 0, $-\infty$ off the support.

    For values, not for autograd: the branch at 0 hides the derivative in zeta. Where that is
    needed, write $u\,\ell(\zeta u)$ with `log1p_ratio`.
    """
    deformed = zeta > 0
    divisor = torch.where(deformed, zeta, 1.0)
    # clamp: log1p would give NaN below -1, where the deformed exponential is cut off at 0
    return torch.where(deformed, (zeta * u).clamp_min(-1.0).log1p() / divisor, u)


def deformed_log_of_exp(log_w: Tensor, zeta: Tensor) -> Tensor:
    r"""$\log_\zeta(e^{\ell}) = \mathrm{expm1}(\zeta \ell)/\zeta$; $\ell$ itself at zeta = 0."""
    deformed = zeta > 0
    divisor = torch.where(deformed, zeta, 1.0)
    return torch.where(deformed, torch.expm1(zeta * log_w) / divisor, log_w)


def log1p_ratio(t: Tensor) -> Tensor:
    r"""$\ell(t) = \log(1 + t)/t$ for t > -1, with $\ell(0) = 1$; differentiable, 0 included."""
    small = t.abs() < _LOG_SERIES_RADIUS
    inner = torch.where(small, t, 0.0)
    series = torch.zeros_like(t)
    for k in range(_LOG_SERIES_ORDER, 0, -1):
        series = 1.0 / k - inner * series
    outer = torch.where(small, 1.0, t)
    return torch.where(small, series, outer.log1p() / outer)


def phi_1(z: Tensor) -> Tensor:
    r"""$\varphi_1(z) = (e^z - 1)/z = 1 + z \varphi_2(z)$, with $\varphi_1(0) = 1$."""
    return 1.0 + z * phi_2(z)


def phi_2(z: Tensor) -> Tensor:
    r"""$\varphi_2(z) = (e^z - 1 - z)/z^2$, with $\varphi_2(0) = 1/2$, to a few units of rounding.

    Near 0 the closed form cancels, and its Taylor series is summed instead,
    $\tfrac12 (1 + \tfrac z3 (1 + \tfrac z4 (1 + \dots)))$. Differentiable, 0 included.
    """
    small = z.abs() < _SERIES_RADIUS
    inner = torch.where(small, z, 0.0)
    series = torch.ones_like(z)
    for k in range(_SERIES_ORDER, 2, -1):
        series = 1.0 + inner * series / k
    outer = torch.where(small, 1.0, z)
    return torch.where(small, series / 2.0, (torch.expm1(outer) - outer) / outer.square())
