"""A policy as SGLang's custom logit processor."""

import json
import pickle
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.integrations.serving import SEED, Request, filter_rows, request_from_parameters
from gibbsian.integrations.sglang.followed import Followed, seed_of

NEUTRAL: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}
"""Sampling parameters that leave the draw to the processor: SGLang's own run behind it, on what it
has left, and a server takes those of the model's generation_config.json where none are given."""

_ENGINE = "__req__"
"""Where SGLang puts its own request among the parameters."""
_FOLLOWED = "__gibbsian__"
"""Where what is remembered of the request is kept: these parameters are its own, and live with it,
while SGLang makes processors at every batch."""
_NEW = object()
_WHOLE_VOCABULARY = 1 << 30


class EntropicLogitProcessor:
    """Leaves, of every row, the tokens that its request's policy lets be drawn.

    To be sent with a request as `custom_logit_processor`, in the form of `to_str()`, to a server
    that was started with --enable-custom-logit-processor and can import gibbsian. The request's
    `custom_params` say what is wanted: `gibbsian_policy` as text or as JSON in text, and
    `gibbsian_seed`, where the token is to be drawn here. The other sampling parameters: `NEUTRAL`.
    A policy that remembers tokens draws them here too, from `sampling_seed` or from a fresh one.

    A request that asks for what cannot be is answered with the reason, status 400; the server and
    its other requests go on.

    Example:
        >>> request = {
        ...     "text": "It was",
        ...     "sampling_params": NEUTRAL | {"custom_params": {"gibbsian_policy": "edt"}},
        ...     "custom_logit_processor": EntropicLogitProcessor.to_str(),
        ... }
    """

    @classmethod
    def to_str(cls) -> str:
        """The class as SGLang reads it: by its name, so it means what is installed there."""
        return json.dumps({"callable": pickle.dumps(cls, protocol=4).hex()})

    @torch.no_grad()
    def __call__(
        self,
        logits: Float[Tensor, "rows states"],
        custom_param_list: Sequence[dict[str, Any] | None] | None = None,
    ) -> Float[Tensor, "rows states"]:
        """Logits of the tokens that may be drawn, the others -inf.

        Args:
            logits: of the rows whose requests name this processor; changed, and returned.
            custom_param_list: `custom_params` of each row's request.
        """
        given = custom_param_list or [None] * logits.shape[0]
        requests: list[Request | None] = []
        taken: list[int | None] = []
        seen: set[int] = set()
        for parameters in given:
            request, token = None, None
            if parameters is not None:
                request, token = self._asked(parameters, logits.shape[-1], seen)
            requests.append(request)
            taken.append(token)
        return filter_rows(logits, requests, taken)

    def _asked(
        self, parameters: dict[str, Any], states: int, seen: set[int]
    ) -> tuple[Request | None, int | None]:
        engine = parameters.get(_ENGINE)
        try:
            if not isinstance(parameters.get(_FOLLOWED, _NEW), Followed | None):
                parameters[_FOLLOWED] = _followed(parameters, states)
            return _going_on(parameters, engine, seen)
        except ArgumentError as error:
            if engine is None:
                raise
            parameters[_FOLLOWED] = None
            _refuse(engine, str(error))
            return None, None


def _followed(parameters: Mapping[str, Any], states: int) -> Followed | None:
    request = request_from_parameters(parameters, states=states)
    if request is None:
        return None
    engine = parameters.get(_ENGINE)
    if engine is not None:
        _check_beside(engine.sampling_params, seeded=request.seed is not None)
        if request.seed is None and request.policy.remembers:
            seed = engine.sampling_params.sampling_seed
            seed = seed_of(engine.rid) if seed is None else seed
            request = Request(policy=request.policy, seed=seed)
    return Followed(request=request)


def _going_on(
    parameters: Mapping[str, Any], engine: Any, seen: set[int]
) -> tuple[Request | None, int | None]:
    followed: Followed | None = parameters[_FOLLOWED]
    if followed is None:
        return None, None
    request = followed.request
    if request.seed is None and not request.policy.remembers:
        return request, None
    if engine is None or id(parameters) in seen:
        raise ArgumentError(
            f"`{SEED}` and policies that remember tokens need one row a request, and to be told "
            "whose it is: not with speculative decoding, nor with an old SGLang."
        )
    seen.add(id(parameters))
    return request, followed.turn_to_token(engine)


def _check_beside(asked: Any, *, seeded: bool) -> None:
    """Other samplers behind the policy's would bend what it leaves, or not be heard."""
    for name, value in (NEUTRAL | {"top_k": _WHOLE_VOCABULARY}).items():
        if getattr(asked, name) != value:
            raise ArgumentError(
                f"`{name}` must be {NEUTRAL[name]} with a policy, which has its own, got "
                f"{getattr(asked, name)}. Where none was given it is the model's, or greedy."
            )
    if seeded and asked.n > 1:
        raise ArgumentError(
            f"`n` must be 1 with `{SEED}`, got {asked.n}: equal seeds give equal texts. "
            "Send a request for each seed."
        )


def _refuse(engine: Any, message: str) -> None:
    """End the request as SGLang ends bad ones, after the step that is running."""
    from sglang.srt.managers import schedule_batch  # noqa: PLC0415  (this runs in its server)

    engine.to_finish = schedule_batch.FINISH_ABORT(
        message, HTTPStatus.BAD_REQUEST, "BadRequestError"
    )
