"""Schedules and rows that the tests of this folder share."""

import torch
from hypothesis import strategies as st

from gibbsian.normalizers import (
    Constant,
    Cosine,
    Gated,
    LearnableConstant,
    LearnableRamp,
    Linear,
    Response,
    SmoothStep,
    VarentropyBounds,
)
from gibbsian.statistics import GibbsStatistics

HEADS = 3
BOUNDS = VarentropyBounds(varentropy_scale=0.7, lambda_low=0.3, lambda_high=0.2)
RAMPS = (Linear, SmoothStep, Cosine)


def user_defined(statistics):
    """A schedule as a user writes one."""
    return 1 - statistics.normalized_entropy


def schedules():
    """One of every kind, by name, with its largest sparsity; float64 parameters."""
    ramp = LearnableRamp(zeta_max=0.6).double()
    kinds = {
        "constant": (Constant(zeta=0.3), 0.3),
        "constant_per_head": (Constant(zeta=(0.0, 0.4, 1.0)), 1.0),
        "response": (Response(budget=0.2, zeta_max=0.9), 0.9),
        "gated": (Gated(schedule=SmoothStep(), constant=(0.1, 0.2, 0.3), tolerance=0.5), 1.0),
        "gated_learnable": (
            Gated(schedule=LearnableRamp(), constant=LearnableConstant()).for_heads(HEADS).double(),
            1.0,
        ),
        "learnable_constant": (LearnableConstant(num_heads=HEADS, zeta=0.2).double(), 1.0),
        "learnable_constant_shared": (LearnableConstant().double(), 1.0),
        "learnable_ramp": (ramp.for_heads(HEADS), 1.0),
        "learnable_ramp_shared": (ramp, 1.0),
        "learnable_ramp_bounds": (LearnableRamp(num_heads=HEADS, bounds=BOUNDS).double(), 1.0),
        "learnable_ramp_mirrored": (
            LearnableRamp(direction="concentrate_high", bounds=VarentropyBounds()).double(),
            1.0,
        ),
        "user_defined": (user_defined, 1.0),
    }
    for ramp_class in RAMPS:
        for direction in ("concentrate_low", "concentrate_high"):
            for bounds in (None, BOUNDS):
                made = ramp_class(
                    low=0.3, high=0.8, zeta_max=0.7, direction=direction, bounds=bounds
                )
                kinds[f"{made.name}-{direction}-{'bounds' if bounds else 'plain'}"] = (made, 0.7)
    return kinds


SCHEDULES = schedules()
SHARED = tuple(  # those that take rows of any shape
    name
    for name in SCHEDULES
    if name
    not in (
        "constant_per_head",
        "gated",
        "gated_learnable",
        "learnable_constant",
        "learnable_ramp",
        "learnable_ramp_bounds",
    )
)


def rows(
    normalized_entropy, varentropy=0.5, *, num_states=50.0, third_cumulant=0.0, dtype=torch.float64
):
    """Statistics with a given entropy and varentropy, without scores behind them."""
    s = torch.as_tensor(normalized_entropy, dtype=dtype)
    n = torch.as_tensor(num_states, dtype=dtype).expand(s.shape)
    zeros = torch.zeros_like(s)
    return GibbsStatistics(
        max_score=zeros,
        min_entropy=zeros,
        collision_entropy=zeros,
        entropy=s * torch.where(n > 1, n, 1.0).log(),
        varentropy=torch.as_tensor(varentropy, dtype=dtype).expand(s.shape),
        third_cumulant=torch.as_tensor(third_cumulant, dtype=dtype).expand(s.shape),
        num_states=n,
        temperature=torch.ones_like(s),
    )


unit = st.floats(0.0, 1.0)
varentropies = st.one_of(st.floats(0.0, 10.0), st.floats(0.0, 1e8))


@st.composite
def ramps(draw, *, with_bounds=None):
    """Any fixed ramp."""
    low = draw(st.floats(0.0, 0.9))
    bounds = None
    if draw(st.booleans()) if with_bounds is None else with_bounds:
        lambda_low = draw(unit)
        bounds = VarentropyBounds(
            varentropy_scale=draw(st.floats(0.01, 100.0)),
            lambda_low=lambda_low,
            lambda_high=draw(st.floats(0.0, 1.0 - lambda_low)),
        )
    return draw(st.sampled_from(RAMPS))(
        low=low,
        high=draw(st.floats(low + 0.05, 1.0)),
        zeta_max=draw(unit),
        direction=draw(st.sampled_from(["concentrate_low", "concentrate_high"])),
        bounds=bounds,
    )
