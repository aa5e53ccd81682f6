"""What every serving engine needs: a request's parameters, and rows that come and go.

An engine calls a processor once a step with the logits of the sequences that run just then. What
differs from engine to engine is how it says which row is whose; the rest is here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gibbsian._errors import ArgumentError
from gibbsian.integrations.kinds import kind_of
from gibbsian.sampling import SamplerState, start, step
from gibbsian.sampling.policies import Policy, PolicyState, config_from_text, policy_from_config
from gibbsian.sampling.stream import row_seeds
from gibbsian.statistics import row_statistics

POLICY = "gibbsian_policy"
"""Parameter of a request: the policy, as NAME:OPTION=VALUE,... or as a JSON object."""
SEED = "gibbsian_seed"
"""Parameter of a request: draw the tokens here, from the stream of this seed."""
_PREFIX = "gibbsian"
_FEWEST_STATES = 8
_MOST_STATES = 1 << 31
_LARGEST = 1e6
_MOST_CANDIDATES = 100
"""Each is a number drawn and a token looked at, for every row and step."""
_MISFITS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What options of wrong types and sizes come to."""


@dataclass(kw_only=True, slots=True, eq=False)
class Request:
    """A policy, and what is remembered of one sequence: `filter_rows` keeps it up to date."""

    policy: Policy
    """What decides; it must fit a single row."""
    seed: int | None = None
    """None = the engine draws, from the tokens that are left to it. A number = the token is drawn
    here, by the stream that this number alone decides, and no other is left: equal seeds give equal
    tokens on every engine, and candidates are compared where the policy asks for it."""
    drawn: int = field(default=0, init=False)
    """Tokens drawn here."""
    memory: PolicyState | None = field(default=None, init=False)
    """The policy's, after the last step."""
    scores: Tensor | None = field(default=None, init=False)
    """Logits of the last step, (states,), as long as it is not known which token was taken."""
    kind: tuple[str | int, bool] = field(init=False)
    """Requests of one kind can be computed together."""

    def __post_init__(self) -> None:
        """Tell the kind."""
        self.kind = (kind_of(self.policy), self.seed is None)


def request_from_parameters(
    parameters: Mapping[str, Any] | None,
    *,
    default: Policy | None = None,
    states: int | None = None,
) -> Request | None:
    """What a client asks for; None if for nothing.

    Args:
        parameters: of the request; those that are not about gibbsian are left alone.
        default: policy of requests that name none.
        states: size of the vocabulary, if it is known already.

    Raises:
        ArgumentError: an unknown parameter that begins with `gibbsian`, a policy that cannot be or
            does not fit one row, a seed that is no integer.
    """
    given = {key: value for key, value in (parameters or {}).items() if key.startswith(_PREFIX)}
    unknown = sorted(set(given) - {POLICY, SEED})
    if unknown:
        raise ArgumentError(f"`{unknown[0]}` is not a parameter. There are {POLICY} and {SEED}.")
    asked, seed = given.get(POLICY), given.get(SEED)
    policy = _checked_policy(asked, default, states)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ArgumentError(f"`{SEED}` must be an integer, got {seed!r}.")
    if policy is None:
        if seed is not None:
            raise ArgumentError(f"`{SEED}` needs `{POLICY}`. Without one the engine's own is used.")
        return None
    return Request(policy=policy, seed=seed)


@torch.no_grad()
def filter_rows(
    logits: Float[Tensor, "rows states"],
    requests: Sequence[Request | None],
    taken: Sequence[int | None],
) -> Float[Tensor, "rows states"]:
    """Leaves of every row what its request's policy lets be drawn. Changes `logits`.

    Args:
        logits: of the next tokens. Rows without a request are not touched, the others are
            overwritten. A row with a NaN gets some token if it is drawn here, else it stays NaN.
        requests: whose row it is. A request has one row at most.
        taken: the token that the sequence went on with after the last call with its request; None
            = it begins.

    Returns:
        `logits`.

    Notes:
        Rows of equal policies are computed together; a row's result does not depend on the others.
    """
    groups: dict[tuple[str | int, bool], list[int]] = {}
    for i, request in enumerate(requests):
        if request is not None:
            groups.setdefault(request.kind, []).append(i)
    for members in groups.values():
        group = [request for i in members if (request := requests[i]) is not None]
        index = torch.tensor(members, device=logits.device)
        handle = _drawn if group[0].seed is not None else _filtered
        kept = handle(logits[index], group, [taken[i] for i in members])
        if logits.dtype.itemsize < kept.dtype.itemsize:
            # a cold row may be too large for half precision; its largest score is as good as 0
            kept = kept - kept.amax(dim=-1, keepdim=True)
        logits[index] = kept.to(logits.dtype)
    return logits


def _filtered(rows: Tensor, group: list[Request], taken: list[int | None]) -> Tensor:
    policy = group[0].policy
    decision, memory = policy.decide(row_statistics(rows), _memory(group, taken, rows.device))
    if policy.remembers:
        _remember(group, memory)
        for request, scores in zip(group, rows, strict=True):
            request.scores = scores
    return decision.apply(rows)


def _drawn(rows: Tensor, group: list[Request], taken: list[int | None]) -> Tensor:
    policy, device = group[0].policy, rows.device
    for request, token in zip(group, taken, strict=True):
        request.drawn = 0 if token is None else request.drawn
    streams = torch.cat([row_seeds(request.seed or 0, 1, device) for request in group])
    count = torch.tensor([request.drawn for request in group], device=device)
    state = SamplerState(seed=streams, count=count, policy=_memory(group, taken, device))
    tokens, state, _ = step(rows, state, policy=policy, validate=False)
    for request in group:
        request.drawn += 1
    if policy.remembers:
        _remember(group, state.policy)
    return torch.full_like(rows, -torch.inf).scatter_(-1, tokens.unsqueeze(-1), 0.0)


def _memory(group: list[Request], taken: list[int | None], device: torch.device) -> PolicyState:
    """What the policy remembers of each row, now that it is known which tokens were taken."""
    policy = group[0].policy
    if not policy.remembers:
        return policy.start(len(group), device)
    states = []
    for request, token in zip(group, taken, strict=True):
        state, scores = request.memory, request.scores
        if state is None or token is None:
            state = policy.start(1, device)
        elif scores is not None:
            surprisal = scores.float().logsumexp(dim=-1, keepdim=True) - scores[token]
            state = policy.observe(state, surprisal.clamp_min(0.0))
        states.append(state)
    return PolicyState.join(states)


def _remember(group: list[Request], memory: PolicyState) -> None:
    for i, request in enumerate(group):
        request.memory = memory.rows(torch.tensor([i]))
        request.scores = None


def _checked_policy(asked: Any, default: Policy | None, states: int | None) -> Policy | None:
    try:
        policy = default if asked is None else _policy(asked)
        if policy is not None:
            _check_fit(policy, states)
    except ArgumentError:
        raise
    except _MISFITS as error:
        reason = str(error).partition("\n")[0]
        raise ArgumentError(
            f"`{POLICY}` does not fit one sequence: {reason}. Its options are plain numbers."
        ) from None
    return policy


def _policy(asked: Any) -> Policy:
    if isinstance(asked, str):
        asked = config_from_text(asked)
    if isinstance(asked, Mapping):
        _check_plain(POLICY, asked)
        return policy_from_config(asked)
    raise ArgumentError(
        f"`{POLICY}` must be NAME, NAME:OPTION=VALUE,... or a JSON object, got {asked!r}."
    )


def _check_plain(name: str, value: Any) -> None:
    """A list would be one number a row, and a size would be allocated before it is refused."""
    if isinstance(value, Mapping):
        for key, option in value.items():
            _check_plain(str(key), option)
    elif isinstance(value, list | tuple):
        raise ArgumentError(f"`{name}` must be one value in a request, got a list.")
    elif isinstance(value, int | float) and abs(value) > _LARGEST:
        raise ArgumentError(f"`{name}` must be at most {_LARGEST:g} in a request, got {value}.")


def _check_fit(policy: Policy, states: int | None) -> None:
    """Take two tokens: what fails here would fail in the engine, with all that it serves."""
    inserted = getattr(policy, "insert_token", None)
    if inserted is not None:
        last = (_MOST_STATES if states is None else states) - 1
        if isinstance(inserted, bool) or not isinstance(inserted, int) or inserted > last:
            raise ArgumentError(
                f"`insert_token` must be a token of the vocabulary, 0 to {last}, got {inserted!r}. "
                "Look it up in the model's own tokenizer."
            )
        policy = replace(policy, insert_token=0)  # type: ignore[call-arg]
    row, state = torch.zeros(1, _FEWEST_STATES), start(policy, 1, seed=0)
    decision, _ = policy.decide(row_statistics(row), state.policy)
    if decision.candidates > _MOST_CANDIDATES:
        raise ArgumentError(
            f"`candidates` must be at most {_MOST_CANDIDATES} in an engine, got "
            f"{decision.candidates}. 5 is the default."
        )
    for _ in range(2):
        _, state, _ = step(row, state, policy=policy)
