"""Sampling the next token: logits -> statistics -> policy -> decision -> filters -> draw."""

from gibbsian.sampling.attention import AttentionSignals as AttentionSignals
from gibbsian.sampling.calibration import Calibration as Calibration
from gibbsian.sampling.calibration import calibrate as calibrate
from gibbsian.sampling.decision import Action as Action
from gibbsian.sampling.decision import Decision as Decision
from gibbsian.sampling.draw import draw as draw
from gibbsian.sampling.step import SamplerState as SamplerState
from gibbsian.sampling.step import StepInfo as StepInfo
from gibbsian.sampling.step import StepResult as StepResult
from gibbsian.sampling.step import start as start
from gibbsian.sampling.step import step as step
from gibbsian.sampling.stream import row_seeds as row_seeds
from gibbsian.sampling.stream import uniforms as uniforms
from gibbsian.sampling.telemetry import TokenRecord as TokenRecord
from gibbsian.sampling.telemetry import Trace as Trace
from gibbsian.sampling.telemetry import read_jsonl as read_jsonl
from gibbsian.sampling.telemetry import write_jsonl as write_jsonl
from gibbsian.sampling.thresholds import Thresholds as Thresholds

__all__ = [
    "Action",
    "AttentionSignals",
    "Calibration",
    "Decision",
    "SamplerState",
    "StepInfo",
    "StepResult",
    "Thresholds",
    "TokenRecord",
    "Trace",
    "calibrate",
    "draw",
    "read_jsonl",
    "row_seeds",
    "start",
    "step",
    "uniforms",
    "write_jsonl",
]
