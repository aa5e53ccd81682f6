"""What a language model expects at every position, without all logits at once."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from gibbsian.experiments.inspection.summary import rounded
from gibbsian.statistics.fused import fused_gibbs_statistics

ALTERNATIVES = 5
_LOGITS = 1 << 22
"""Logits at a time: 16 MiB in float32."""

Expectation = dict[str, Any]
"""Of one token: `surprisal`, `entropy`, `varentropy` and `alternatives`, pairs of token and
probability."""


@torch.no_grad()
def expectations(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> Iterator[Expectation]:
    """What the model expected in the place of each token but the first, and how much it got.

    Args:
        model: with a head for the next token.
        hidden: last hidden states of its `base_model` on the tokens, (1, tokens, width).
        tokens: (1, tokens).

    Yields:
        One for each token from the second on, from the distribution given all tokens before it.
    """
    count = tokens.shape[1]
    step = max(1, _LOGITS // model.config.get_text_config().vocab_size)
    for start in range(0, count - 1, step):
        stop = min(start + step, count - 1)
        logits = logits_of(model, hidden[:, start:stop], tokens[:, start:stop])[0].float()
        observed = tokens[0, start + 1 : stop + 1]
        gibbs = fused_gibbs_statistics(logits)
        # from differences: exact at any offset of the logits
        level = (gibbs.max_score + gibbs.min_entropy).unsqueeze(-1)
        own = logits.gather(-1, observed.unsqueeze(-1))
        surprisal = (level - own).squeeze(-1).clamp_min(0.0)
        best, numbers = logits.topk(min(ALTERNATIVES, logits.shape[-1]), dim=-1)
        probabilities = (best - level).exp()
        for i in range(stop - start):
            yield {
                "surprisal": rounded(float(surprisal[i])),
                "entropy": rounded(float(gibbs.entropy[i])),
                "varentropy": rounded(float(gibbs.varentropy[i])),
                "alternatives": list(
                    zip(numbers[i].tolist(), map(rounded, probabilities[i].tolist()), strict=True)
                ),
            }


def logits_of(model: PreTrainedModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Logits of a few positions, with all that the model does behind its last hidden states."""
    with _replayed(model, hidden):
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits


@contextmanager
def _replayed(model: PreTrainedModel, hidden: Tensor) -> Iterator[None]:
    """Let the model's layers return what they returned before."""

    def forward(*_: Any, **__: Any) -> BaseModelOutputWithPastAndCrossAttentions:
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)

    base = model.base_model
    base.forward = forward
    try:
        yield
    finally:
        del base.forward


def thresholds(
    expected: Sequence[Expectation], entropy: float | None, varentropy: float | None
) -> dict[str, Any]:
    """Where the quadrants of entropy and varentropy meet: as given, else at the medians."""
    given = {"entropy": entropy, "varentropy": varentropy}
    levels = {
        name: _median(expected, name) if level is None else level for name, level in given.items()
    }
    medians = [name for name, level in given.items() if level is None]
    how = "as given" if not medians else f"median of this text's tokens ({' and '.join(medians)})"
    return {**levels, "how": how}


def _median(expected: Sequence[Expectation], name: str) -> float | None:
    present = [e[name] for e in expected if e[name] is not None]
    return rounded(statistics.median(present)) if present else None


def quadrant(expected: Expectation, levels: dict[str, Any]) -> str | None:
    """Such as `low S, high V`; a number at the threshold is low. None where a logit was NaN."""
    words = []
    for name, symbol in (("entropy", "S"), ("varentropy", "V")):
        if expected[name] is None or levels[name] is None:
            return None
        words.append(f"{'high' if expected[name] > levels[name] else 'low'} {symbol}")
    return ", ".join(words)
