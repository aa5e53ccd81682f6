"""Losses of a row of scores against the observed state."""

from gibbsian.losses.fenchel_young import Entmax15Loss as Entmax15Loss
from gibbsian.losses.fenchel_young import EntmaxBisectLoss as EntmaxBisectLoss
from gibbsian.losses.fenchel_young import SparsemaxBisectLoss as SparsemaxBisectLoss
from gibbsian.losses.fenchel_young import SparsemaxLoss as SparsemaxLoss
from gibbsian.losses.fenchel_young import entmax15_loss as entmax15_loss
from gibbsian.losses.fenchel_young import entmax_bisect_loss as entmax_bisect_loss
from gibbsian.losses.fenchel_young import fenchel_young_loss as fenchel_young_loss
from gibbsian.losses.fenchel_young import sparsemax_bisect_loss as sparsemax_bisect_loss
from gibbsian.losses.fenchel_young import sparsemax_loss as sparsemax_loss

__all__ = [
    "Entmax15Loss",
    "EntmaxBisectLoss",
    "SparsemaxBisectLoss",
    "SparsemaxLoss",
    "entmax15_loss",
    "entmax_bisect_loss",
    "fenchel_young_loss",
    "sparsemax_bisect_loss",
    "sparsemax_loss",
]
