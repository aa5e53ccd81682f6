"""LLN attention one token at a time: constant memory and time a token."""

from jaxtyping import Float
from torch import Tensor

from gibbsian.attention.lln.state import LLNState


def recurrent_lln(
    state: LLNState,
    log_query: Float[Tensor, "batch heads head_dim"],
    log_key: Float[Tensor, "batch heads head_dim"],
    value: Float[Tensor, "batch heads value_dim"],
) -> tuple[Float[Tensor, "batch heads value_dim"], LLNState]:
    r"""Let one key join the state, then read it: row i of causal LLN attention.

    Args:
        state: of the keys before this one, as `LLNState.of` makes it from a prompt or from no key.
        log_query: query_scale q, in the dtype of the state.
        log_key: key_scale k; -inf = no key (padding of this sample), whose value must be finite.
        value: the value of this key.

    Returns:
        `(output, state)`: the output of this query, 0 if no key has come yet, and the state with
        this key. The scales must be those of all keys in the state, as running ones are at
        inference.
    """
    state = state.merge(LLNState.of(log_key.unsqueeze(-2), value.unsqueeze(-2)))
    return state.read(log_query.unsqueeze(-2)).squeeze(-2), state
