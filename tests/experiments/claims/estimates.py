"""Made-up numbers for the rules."""

from gibbsian.experiments.claims import Estimate


def near(value: float, half: float = 0.0) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, count=5)
