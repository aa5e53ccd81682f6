"""Parameters out of range are one-line errors that name the argument and the way out."""

import pytest
import torch

from gibbsian import _errors
from gibbsian.sampling import filters


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: filters.Temperature(temperature=-1.0), "temperature"),
        (lambda: filters.Temperature(temperature=float("nan")), "temperature"),
        (lambda: filters.Temperature(temperature=float("inf")), "temperature"),
        (lambda: filters.TopK(k=0), "k"),
        (lambda: filters.TopK(k=torch.ones(3), bound=0), "bound"),
        (lambda: filters.TopP(p=1.1), "p"),
        (lambda: filters.MinP(min_p=-0.1), "min_p"),
        (lambda: filters.Typical(mass=0.0), "mass"),
        (lambda: filters.Epsilon(epsilon=1.0), "epsilon"),
        (lambda: filters.Eta(epsilon=1.0), "epsilon"),
        (lambda: filters.TopNSigma(n=-1.0), "n"),
        (lambda: filters.TopH(h=1.5), "h"),
        (lambda: filters.TopHPartialSums(h=-0.5), "h"),
        (lambda: filters.EntmaxFilter(zeta=1.5), "zeta"),
        (lambda: filters.FreeEnergyPool(excess=-1.0), "excess"),
        (lambda: filters.TargetEntropy(entropy=-1.0), "entropy"),
        (lambda: filters.TargetEntropy(entropy=1.0, coldest=2.0, hottest=1.0), "coldest"),
        (lambda: filters.TopP(p=torch.ones(2))(torch.zeros(3, 4)), "p"),
    ],
)
def test_out_of_range(make, name):
    with pytest.raises(_errors.ArgumentError, match=f"^`{name}`") as raised:
        make()
    assert "\n" not in str(raised.value)
