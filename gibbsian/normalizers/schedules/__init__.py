"""Schedules: which sparsity a row gets from its entropy and varentropy."""

from gibbsian.normalizers.schedules.base import Direction as Direction
from gibbsian.normalizers.schedules.base import Schedule as Schedule
from gibbsian.normalizers.schedules.bounds import VarentropyBounds as VarentropyBounds
from gibbsian.normalizers.schedules.config import schedule_from_config as schedule_from_config
from gibbsian.normalizers.schedules.config import schedule_to_config as schedule_to_config
from gibbsian.normalizers.schedules.constant import Constant as Constant
from gibbsian.normalizers.schedules.gate import Gated as Gated
from gibbsian.normalizers.schedules.learnable_bounds import LearnableBounds as LearnableBounds
from gibbsian.normalizers.schedules.learnable_constant import LearnableConstant as LearnableConstant
from gibbsian.normalizers.schedules.learnable_ramp import LearnableRamp as LearnableRamp
from gibbsian.normalizers.schedules.ramps import Cosine as Cosine
from gibbsian.normalizers.schedules.ramps import Linear as Linear
from gibbsian.normalizers.schedules.ramps import SmoothStep as SmoothStep
from gibbsian.normalizers.schedules.response import Response as Response
from gibbsian.normalizers.schedules.response import entropy_response as entropy_response

__all__ = [
    "Constant",
    "Cosine",
    "Direction",
    "Gated",
    "LearnableBounds",
    "LearnableConstant",
    "LearnableRamp",
    "Linear",
    "Response",
    "Schedule",
    "SmoothStep",
    "VarentropyBounds",
    "entropy_response",
    "schedule_from_config",
    "schedule_to_config",
]
