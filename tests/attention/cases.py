"""Attentions under test, and inputs for them."""

import torch

from gibbsian.attention import AES, LLN, Entmax, LLNDiag, Softmax
from gibbsian.normalizers import LearnableRamp, SmoothStep

ATTENTIONS = {
    "softmax": Softmax,
    "entmax": lambda: Entmax(zeta=0.7),
    "aes": AES,
    "aes detached": lambda: AES(schedule=SmoothStep(low=0.1, high=0.8), detach_statistics=True),
    "aes learnable": lambda: AES(schedule=LearnableRamp(num_heads=4)),
    "lln": lambda: LLN(query_scale=1.5, key_scale=1.2),
    "lln+diag": lambda: LLNDiag(query_scale=1.5, key_scale=1.2, block_size=4),
}
QUADRATIC = tuple(name for name in ATTENTIONS if not name.startswith("lln"))
"""Those that honour any mask and know nothing of positions."""


def build(name):
    return ATTENTIONS[name]().eval()


def inputs(
    *, batch=2, heads=4, key_heads=None, queries=7, keys=7, head_dim=8, value_dim=5, dtype=None
):
    """Query, key and value with rows from nearly uniform to concentrated."""
    key_heads = key_heads or heads
    query = torch.randn(batch, heads, queries, head_dim, dtype=dtype)
    query = query * torch.linspace(0.2, 4, queries, dtype=dtype).unsqueeze(-1)
    key = torch.randn(batch, key_heads, keys, head_dim, dtype=dtype)
    value = torch.randn(batch, key_heads, keys, value_dim, dtype=dtype)
    return query, key, value


def leaves(*tensors):
    return tuple(tensor.detach().clone().requires_grad_() for tensor in tensors)
