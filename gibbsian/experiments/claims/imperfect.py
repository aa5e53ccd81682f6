"""Models of a known source, from poor to good."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from gibbsian.experiments.claims.truths import TOKENS, Source
from gibbsian.experiments.config import CompareConfig
from gibbsian.experiments.models import build_model

Array: TypeAlias = np.ndarray

NOISE, SCATTER, COUNTS, DECODER = "uniform noise", "scattered logits", "n-grams", "transformer"
KINDS = (NOISE, SCATTER, COUNTS, DECODER)
"""Truth mixed with uniform noise; truth with normal noise on its logits; trained by counting; a
trained decoder."""
SHARES = (0.5, 0.3, 0.1, 0.03, 0.01, 0.001)
SPREADS = (2.0, 1.4, 1.0, 0.5, 0.2, 0.03)
LENGTH = 48
"""Tokens of a text."""
_PAST = 3
"""Most tokens that a count looks back."""
_BATCH = 16
_WIDTH, _LAYERS, _HEADS = 48, 2, 2
_RATE = 3e-3


def mixed(truth: Array, share: float) -> Array:
    """Truth with a share of uniform noise."""
    return np.asarray((1 - share) * truth + share / truth.shape[-1])


def scattered(truth: Array, spread: float, rng: np.random.Generator) -> Array:
    """Truth whose logits have independent normal errors."""
    weights = truth * np.exp(spread * rng.standard_normal(truth.shape))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def counted(texts: Array, read: Array) -> Array:
    """Next-token distributions on `read`, by counts in `texts` of up to four tokens.

    Interpolated as Witten and Bell: a context that was seen n times, before r different tokens,
    has weight n / (n + r) against the next shorter one; the shortest rests on the uniform one.
    """
    found = np.full((*read.shape, TOKENS), 1 / TOKENS)
    for past in range(_PAST + 1):
        counts = np.zeros((TOKENS**past, TOKENS))
        np.add.at(counts, (_contexts(texts, past)[:, past:], texts[:, past:]), 1)
        at = _contexts(read, past)
        seen = counts[at]
        total, kinds = seen.sum(axis=-1, keepdims=True), (seen > 0).sum(axis=-1, keepdims=True)
        better = (seen + kinds * found) / np.maximum(total + kinds, 1)
        # too near the beginning for so long a context, or one never seen
        usable = (total > 0) & (np.arange(read.shape[1]) >= past)[None, :, None]
        found = np.where(usable, better, found)
    return found


def _contexts(tokens: Array, past: int) -> Array:
    """The `past` tokens before each as one number; of no meaning where there are not so many."""
    number = np.zeros_like(tokens)
    for k in range(past, 0, -1):
        number = number * TOKENS + np.roll(tokens, k, axis=1)
    return number


def trained(source: Source, read: Array, stops: Sequence[int], seed: int) -> Iterator[Array]:
    """Next-token distributions on `read` of a decoder after so many steps of training."""
    config = CompareConfig(width=_WIDTH, layers=_LAYERS, heads=_HEADS, context=LENGTH)
    state = torch.get_rng_state()
    try:
        # one token more, which begins every text
        model = build_model(config, TOKENS + 1, seed)
    finally:
        torch.set_rng_state(state)
    rng = np.random.default_rng([4, seed])
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.01)
    last = max(stops)
    for step in range(last + 1):
        if step in stops:
            yield _predicted(model, read)
        if step == last:
            return
        tokens = _begun(source.texts(_BATCH, LENGTH, rng)[0])
        for group in optimizer.param_groups:
            # warm-up; the last third is slower, for the best model
            group["lr"] = _RATE * min(1.0, (step + 1) / 20) * (0.2 if 3 * step > 2 * last else 1.0)
        logits = model(input_ids=tokens[:, :-1]).logits[..., :TOKENS]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def _predicted(model: nn.Module, read: Array) -> Array:
    logits = model(input_ids=_begun(read)[:, :-1]).logits[..., :TOKENS]
    return np.asarray(logits.double().softmax(dim=-1).numpy())


def _begun(texts: Array) -> torch.Tensor:
    tokens = torch.from_numpy(texts)
    return torch.cat([tokens.new_full((len(tokens), 1), TOKENS), tokens], dim=1)
