"""What a vLLM request says about gibbsian, and what it must not say beside it."""

import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from gibbsian._errors import ArgumentError
from gibbsian.integrations.serving import POLICY, SEED, Request, request_from_parameters
from gibbsian.sampling.policies import Policy

POLICY_VARIABLE = "GIBBSIAN_POLICY"
"""Environment variable with the policy of requests that name none. vLLM's processes inherit it."""

_NEUTRAL: dict[str, tuple[float, ...]] = {
    "temperature": (1.0,),
    "top_p": (1.0,),
    "top_k": (0, -1),
    "min_p": (0.0,),
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "repetition_penalty": (1.0,),
}
"""vLLM's own rules run behind the policy, on what it has left; a processor cannot turn them off."""


@runtime_checkable
class SamplingParameters(Protocol):
    """What is read of `vllm.SamplingParams`."""

    extra_args: dict[str, Any] | None
    """In the OpenAI-compatible server the request's `vllm_xargs`."""
    seed: int | None
    """vLLM's own seed."""
    n: int
    """How many texts are asked for."""


def default_policy(states: int | None = None) -> Policy | None:
    """The policy that the environment variable names, if it is set.

    Args:
        states: size of the vocabulary, if it is known already.

    Raises:
        ArgumentError: it names none that there is.
    """
    text = os.environ.get(POLICY_VARIABLE)
    if not text:
        return None
    try:
        request = request_from_parameters({POLICY: text}, states=states)
    except ArgumentError as error:
        raise ArgumentError(f"`{POLICY_VARIABLE}`: {error}") from None
    return None if request is None else request.policy


def request_of(
    parameters: SamplingParameters, *, default: Policy | None, states: int | None = None
) -> Request | None:
    """What a request asks for; None if for nothing.

    Args:
        parameters: the request's.
        default: policy of requests that name none.
        states: size of the vocabulary, if it is known already.

    Raises:
        ArgumentError: the policy or the seed cannot be.
    """
    given: Mapping[str, Any] | None = parameters.extra_args
    return request_from_parameters(given, default=default, states=states)


def check(parameters: SamplingParameters) -> None:
    """Refuse a request before it reaches the engine.

    Raises:
        ArgumentError: the policy or the seed cannot be, or vLLM's own rules would change the
            tokens that the policy leaves.
    """
    request = request_of(parameters, default=default_policy())
    if request is None:
        return
    for name, neutral in _NEUTRAL.items():
        value = getattr(parameters, name)
        if value not in neutral:
            raise ArgumentError(
                f"`{name}` must be {neutral[0]:g} with a policy, got {value}: it would act on what "
                f"the policy has left. Leave it out, and start the server with --generation-config "
                f"vllm if the model brings it. Temperature, top-p, top-k and min-p can stand in "
                f"`{POLICY}`, e.g. fixed:temperature=0.7."
            )
    if request.seed is not None and parameters.n > 1:
        raise ArgumentError(
            f"`n` must be 1 with `{SEED}`, got {parameters.n}: equal seeds give equal texts. "
            "Send a request for each seed."
        )
