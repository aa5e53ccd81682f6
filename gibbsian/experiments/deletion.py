r"""Which tokens a causal language model needs for which others: leave-one-out on real text.

A key is deleted from the model altogether: in every layer and head no other position sees it. What
that does to the loss of the later tokens decides which keys were relevant to them. (What it does to
one row of one layer is `gibbsian.observables.leave_one_out`.)
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from transformers import PreTrainedModel

from gibbsian._errors import ArgumentError


@torch.no_grad()
def deletion_effects(
    model: PreTrainedModel,
    input_ids: Int64[Tensor, "tokens"],
    *,
    deleted: Int64[Tensor, "deletions"] | None = None,
    batch: int = 8,
) -> Float[Tensor, "deletions tokens"]:
    r"""How much more surprising each token is when an earlier one is deleted.

    $$\Delta_{jt} = -\log p(y_t \mid y_{<t} \text{ without } j) + \log p(y_t \mid y_{<t})$$

    Args:
        model: a causal language model of transformers, in evaluation mode.
        input_ids: one text.
        deleted: positions j to delete, one at a time. None = all.
        batch: deletions in one forward pass, >= 1.

    Returns:
        Nats, in float32. 0 for $t \le j + 1$: earlier predictions do not depend on j, and the token
        j + 1 is predicted by position j itself, which knows its token without attention.

    Raises:
        ArgumentError: a position outside the text, or `batch` < 1.

    Notes:
        One forward pass of the text a deletion, its logits included. Positions stay as they are:
        the later tokens do not move up. The deleted position goes on to see itself and its past, so
        that it has a row; no other position sees that.
    """
    tokens = len(input_ids)
    device = input_ids.device
    if batch < 1:
        raise ArgumentError(f"`batch` must be >= 1, got {batch}. 8 fits most models.")
    if deleted is None:
        deleted = torch.arange(tokens, device=device)
    if bool(((deleted < 0) | (deleted >= tokens)).any()):
        raise ArgumentError(
            f"`deleted` must hold positions in 0..{tokens - 1}, got {int(deleted.min())} to "
            f"{int(deleted.max())}. Leave it out to delete each token."
        )
    effects = torch.zeros(len(deleted), tokens, device=device)
    if tokens < 2:
        return effects
    causal = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
    whole = _losses(model, input_ids, causal[None])
    position = torch.arange(tokens, device=device)
    for start in range(0, len(deleted), batch):
        keys = deleted[start : start + batch, None, None]
        visible = causal & ((position != keys) | (position.unsqueeze(-1) == keys))
        changed = _losses(model, input_ids, visible) - whole
        effects[start : start + batch, 1:] = torch.where(
            position[1:] > keys[:, 0] + 1, changed, 0.0
        )
    return effects


def relevant_keys(
    effects: Float[Tensor, "tokens tokens"], *, tolerance: float
) -> Bool[Tensor, "tokens tokens"]:
    """The relevant keys of each query, for `gibbsian.observables.effective_correlation`.

    Args:
        effects: of the deletion of every token, as `deletion_effects` returns them.
        tolerance: smallest change of a loss, up or down, that makes a key relevant, nats, > 0.

    Returns:
        (queries, keys): whether key j matters to what query i predicts, the token i + 1. The last
        query's token is not known; it has none.

    Raises:
        ArgumentError: tolerance <= 0.
    """
    if not tolerance > 0:
        raise ArgumentError(
            f"`tolerance` must be > 0, got {tolerance}. 0.01 nats is a small change of a loss."
        )
    relevant = torch.zeros_like(effects, dtype=torch.bool)
    relevant[:-1] = (effects.abs() > tolerance).T[1:]
    return relevant


def _losses(
    model: PreTrainedModel, input_ids: Tensor, visible: Bool[Tensor, "batch tokens tokens"]
) -> Float[Tensor, "batch tokens_1"]:
    """Negative log-probability of each token but the first."""
    hidden = torch.finfo(model.dtype).min
    mask = torch.zeros(visible.shape, dtype=model.dtype, device=visible.device)
    mask = mask.masked_fill(~visible, hidden).unsqueeze(1)
    together = input_ids.expand(len(visible), -1)
    positions = torch.arange(len(input_ids), device=input_ids.device).expand_as(together)
    logits = model(
        input_ids=together, attention_mask=mask, position_ids=positions, use_cache=False
    ).logits[:, :-1]
    return torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), together[:, 1:], reduction="none"
    )
