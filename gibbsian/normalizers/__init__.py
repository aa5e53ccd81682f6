"""From scores to probabilities, and the schedules that choose the sparsity."""

from gibbsian.normalizers.alpha_entmax import Entmax15 as Entmax15
from gibbsian.normalizers.alpha_entmax import EntmaxBisect as EntmaxBisect
from gibbsian.normalizers.alpha_entmax import Sparsemax as Sparsemax
from gibbsian.normalizers.alpha_entmax import SparsemaxBisect as SparsemaxBisect
from gibbsian.normalizers.alpha_entmax import entmax15 as entmax15
from gibbsian.normalizers.alpha_entmax import entmax_bisect as entmax_bisect
from gibbsian.normalizers.alpha_entmax import sparsemax as sparsemax
from gibbsian.normalizers.alpha_entmax import sparsemax_bisect as sparsemax_bisect
from gibbsian.normalizers.entmax import entmax as entmax
from gibbsian.normalizers.potential import potential as potential
from gibbsian.normalizers.schedules import Constant as Constant
from gibbsian.normalizers.schedules import Cosine as Cosine
from gibbsian.normalizers.schedules import Gated as Gated
from gibbsian.normalizers.schedules import LearnableConstant as LearnableConstant
from gibbsian.normalizers.schedules import LearnableRamp as LearnableRamp
from gibbsian.normalizers.schedules import Linear as Linear
from gibbsian.normalizers.schedules import Response as Response
from gibbsian.normalizers.schedules import Schedule as Schedule
from gibbsian.normalizers.schedules import SmoothStep as SmoothStep
from gibbsian.normalizers.schedules import VarentropyBounds as VarentropyBounds
from gibbsian.normalizers.schedules import entropy_response as entropy_response
from gibbsian.normalizers.schedules import schedule_from_config as schedule_from_config
from gibbsian.normalizers.schedules import schedule_to_config as schedule_to_config
from gibbsian.normalizers.softmax import softmax as softmax

__all__ = [
    "Constant",
    "Cosine",
    "Entmax15",
    "EntmaxBisect",
    "Gated",
    "LearnableConstant",
    "LearnableRamp",
    "Linear",
    "Response",
    "Schedule",
    "SmoothStep",
    "Sparsemax",
    "SparsemaxBisect",
    "VarentropyBounds",
    "entmax",
    "entmax15",
    "entmax_bisect",
    "entropy_response",
    "potential",
    "schedule_from_config",
    "schedule_to_config",
    "softmax",
    "sparsemax",
    "sparsemax_bisect",
]
