"""Sampling the next token: logits -> statistics -> policy -> decision -> filters -> draw."""

from gibbsian.sampling.attention import AttentionSignals as AttentionSignals
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

__all__ = [
    "Action",
    "AttentionSignals",
    "Decision",
    "SamplerState",
    "StepInfo",
    "StepResult",
    "draw",
    "row_seeds",
    "start",
    "step",
    "uniforms",
]
