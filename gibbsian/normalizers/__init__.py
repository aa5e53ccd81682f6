"""From scores to probabilities, and the schedules that choose the sparsity."""

from gibbsian.normalizers.entmax import entmax as entmax
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

__all__ = [
    "Constant",
    "Cosine",
    "Gated",
    "LearnableConstant",
    "LearnableRamp",
    "Linear",
    "Response",
    "Schedule",
    "SmoothStep",
    "VarentropyBounds",
    "entmax",
    "entropy_response",
    "schedule_from_config",
    "schedule_to_config",
]
