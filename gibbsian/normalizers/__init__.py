"""From scores to probabilities, and the schedules that choose the sparsity."""

from gibbsian.normalizers.entmax import entmax as entmax
from gibbsian.normalizers.schedules import Constant as Constant
from gibbsian.normalizers.schedules import Cosine as Cosine
from gibbsian.normalizers.schedules import LearnableConstant as LearnableConstant
from gibbsian.normalizers.schedules import LearnableRamp as LearnableRamp
from gibbsian.normalizers.schedules import Linear as Linear
from gibbsian.normalizers.schedules import Schedule as Schedule
from gibbsian.normalizers.schedules import SmoothStep as SmoothStep
from gibbsian.normalizers.schedules import VarentropyBounds as VarentropyBounds

__all__ = [
    "Constant",
    "Cosine",
    "LearnableConstant",
    "LearnableRamp",
    "Linear",
    "Schedule",
    "SmoothStep",
    "VarentropyBounds",
    "entmax",
]
