"""Entropy collapse: rows of a layer that have become one-hot, and stay so."""

import warnings
from collections.abc import Mapping

from gibbsian._errors import ArgumentError


class CollapseWatch:
    """Warns once for each layer whose normalised entropy stays below a threshold.

    Args:
        threshold: normalised entropy S / log n in [0, 1], mean over heads and rows.
        patience: consecutive observations below it, >= 1.

    References:
        Zhai et al. 2023, Stabilizing transformer training by preventing attention entropy collapse
        (arXiv 2303.06296): low attention entropy goes along with unstable training. They give no
        threshold; the defaults are a convention of this package.
    """

    def __init__(self, *, threshold: float, patience: int) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise ArgumentError(
                f"`collapse_threshold` must lie in [0, 1], got {threshold}. 0 never warns."
            )
        if patience < 1:
            raise ArgumentError(f"`collapse_patience` must be >= 1, got {patience}. 3 is usual.")
        self.threshold = threshold
        self.patience = patience
        self._below: dict[str, int] = {}

    def update(self, entropies: Mapping[str, float], *, step: int) -> None:
        """Take in the normalised entropy of each layer, observed at a step.

        Warns:
            UserWarning: a layer has been below the threshold for `patience` observations; once.
        """
        for layer, entropy in entropies.items():
            before = self._below.get(layer, 0)
            if before >= self.patience:
                continue  # has been told
            self._below[layer] = before + 1 if entropy < self.threshold else 0
            if self._below[layer] == self.patience:
                warnings.warn(
                    f"Attention entropy has collapsed in {layer}: normalised entropy "
                    f"{entropy:.3g} at step {step}, below {self.threshold:g} in "
                    f"{self.patience} observations in a row. Lower the learning rate, warm up "
                    "longer, or normalise queries and keys.",
                    stacklevel=2,
                )
