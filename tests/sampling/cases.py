"""Rows of logits of every kind."""

import torch


def rows(batch=12, states=300, *, scale=3.0, dtype=torch.float32):
    """Spread, flat, peaked, tied, with absent tokens, of one token, of large scores."""
    logits = torch.randn(batch, states, dtype=dtype) * scale
    logits[0] = 0.25
    logits[1] = logits[1].round()
    logits[2, ::2] = -torch.inf
    logits[3, 1:] = -torch.inf
    logits[4, 7] = 40.0
    logits[5] *= 100
    logits[6] = logits[6] + 1e4
    logits[7] = logits[7].abs().neg() * 0.01
    return logits


def pool(row):
    """Indices of the tokens left in a row."""
    return set(torch.nonzero(row > -torch.inf).flatten().tolist())
