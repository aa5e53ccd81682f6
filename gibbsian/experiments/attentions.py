"""The attentions a comparison can name, e.g. `entmax:zeta=0.5`."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from gibbsian._errors import ArgumentError
from gibbsian.attention import AES, Attention, Entmax, Softmax
from gibbsian.attention.lln import LLN, LLNDiag
from gibbsian.normalizers.schedules import (
    Cosine,
    LearnableConstant,
    LearnableRamp,
    Linear,
    Response,
    Schedule,
    SmoothStep,
)

Direction = Literal["concentrate_low", "concentrate_high"]
Shape = Literal["smooth_step", "linear", "cosine"]


def _softmax() -> Attention:
    return Softmax()


def _entmax(*, zeta: float = 0.5) -> Attention:
    return Entmax(zeta=zeta)


def _entmax_learned(*, zeta: float = 0.5) -> Attention:
    return AES(schedule=LearnableConstant(zeta=zeta))


def _aes(
    *,
    low: float = 0.2,
    high: float = 0.9,
    zeta_max: float = 1.0,
    shape: Shape = "smooth_step",
    direction: Direction = "concentrate_low",
) -> Attention:
    ramps: dict[str, Callable[..., Schedule]]
    ramps = {"smooth_step": SmoothStep, "linear": Linear, "cosine": Cosine}
    ramp = ramps[shape]
    return AES(schedule=ramp(low=low, high=high, zeta_max=zeta_max, direction=direction))


def _aes_learned(
    *,
    low: float = 0.2,
    high: float = 0.9,
    zeta_max: float = 0.5,
    direction: Direction = "concentrate_low",
) -> Attention:
    ramp = LearnableRamp(low=low, high=high, zeta_max=zeta_max, direction=direction)
    return AES(schedule=ramp)


def _aes_response(*, budget: float = 0.1, zeta_max: float = 1.0) -> Attention:
    return AES(schedule=Response(budget=budget, zeta_max=zeta_max))


def _lln() -> Attention:
    return LLN()


def _lln_diag(*, block_size: int = 64) -> Attention:
    return LLNDiag(block_size=block_size)


FACTORIES: Mapping[str, Callable[..., Attention]] = MappingProxyType(
    {
        "softmax": _softmax,
        "entmax": _entmax,
        "entmax-learned": _entmax_learned,
        "aes": _aes,
        "aes-learned": _aes_learned,
        "aes-response": _aes_response,
        "lln": _lln,
        "lln-diag": _lln_diag,
    }
)
"""Attentions by name. The keyword arguments of a factory are the parameters a user may give."""


def make_attention(spec: str) -> Attention:
    """The attention that `NAME` or `NAME:PARAMETER=VALUE,...` stands for.

    A schedule with learnable parameters has one set for all heads here;
    `gibbsian.integrations.transformers.use` gives each head of a model its own.

    Raises:
        ArgumentError: the name or a parameter is unknown, a value is not of its type, or it is out
            of its range.
    """
    name, _, rest = spec.partition(":")
    if name not in FACTORIES:
        raise ArgumentError(f"`attention` must be one of {', '.join(FACTORIES)}, got {name!r}.")
    known = inspect.signature(FACTORIES[name]).parameters
    given: dict[str, Any] = {}
    for item in rest.split(",") if rest else ():
        key, equals, value = item.partition("=")
        if not equals or key not in known:
            allowed = ", ".join(f"{p.name}={p.default}" for p in known.values()) or "none"
            raise ArgumentError(
                f"`attention` {name!r} has the parameters: {allowed}; got {item!r}. "
                f"Write {name}:PARAMETER=VALUE,..."
            )
        given[key] = _convert(f"{name}:{key}", value, known[key])
    return FACTORIES[name](**given)


def _convert(name: str, text: str, parameter: inspect.Parameter) -> Any:
    choices = get_args(parameter.annotation)
    if choices:
        if text not in choices:
            raise ArgumentError(f"`{name}` must be one of {', '.join(choices)}, got {text!r}.")
        return text
    try:
        return parameter.annotation(text)
    except ValueError:
        kind = {float: "a number", int: "a whole number"}[parameter.annotation]
        raise ArgumentError(f"`{name}` must be {kind}, got {text!r}.") from None
