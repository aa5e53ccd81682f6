"""Inputs for the compiled attentions, and the comparison with the reference."""

import torch

from gibbsian.attention import aes_attention, attention_row_statistics, entmax_attention
from gibbsian.normalizers import SmoothStep
from tests.tolerances import assert_as_accurate_as

ROW_ZETAS = (0.0, 0.5, 0.5, 0.8, 1e-9, 0.9, 0.0, 0.3, 0.7, 0.05, 0.6)
"""Of the rows one after the other: dense and sparse ones meet in every tile. Their number has no
divisor in common with a register tile's rows."""


def row_sparsities(batch, heads, queries):
    zeta = torch.tensor(ROW_ZETAS).repeat(-(-heads * queries // len(ROW_ZETAS)))
    return zeta[: heads * queries].view(1, heads, queries).repeat(batch, 1, 1)


def statistics(query, key, **options):
    """Every differentiable statistic of every row."""
    found = attention_row_statistics(query, key, **options)
    stacked = torch.stack(
        [
            found.max_score,
            found.min_entropy,
            found.collision_entropy,
            found.entropy,
            found.varentropy,
            found.third_cumulant,
        ],
        dim=-1,
    )
    # a row without keys has none of them
    return torch.where(found.num_states.unsqueeze(-1) > 0, stacked, 0.0)


FORMS = {
    "entmax": lambda *tensors, **options: entmax_attention(
        *tensors[:3], zeta=tensors[3], **options
    ),
    "aes": lambda *tensors, **options: aes_attention(
        *tensors[:3], schedule=SmoothStep(), **options
    ),
    "aes detached": lambda *tensors, **options: aes_attention(
        *tensors[:3], schedule=SmoothStep(), detach_statistics=True, **options
    ),
    "statistics": lambda *tensors, **options: statistics(*tensors[:2], **options),
}


def tensors(queries, keys, *, head_dim=8, value_dim=5, batch=1, heads=2, key_heads=None):
    """Query, key, value and one sparsity a row; rows from nearly uniform to concentrated."""
    generator = torch.Generator().manual_seed(queries * 1000 + keys)
    key_heads = key_heads or heads

    def draw(*shape):
        return torch.randn(batch, *shape, generator=generator)

    query = draw(heads, queries, head_dim) * torch.linspace(0.2, 3, queries).unsqueeze(-1)
    key, value = draw(key_heads, keys, head_dim), draw(key_heads, keys, value_dim)
    return query, key, value, row_sparsities(batch, heads, queries)


def upstream_like(output):
    """A gradient in the output, the same for every backend and dtype."""
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return upstream.to(output.dtype)


def results(form, inputs, upstream=None, **options):
    """Output, and gradients in the inputs that it depends on."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    used = {"entmax": inputs, "statistics": inputs[:2]}.get(form, inputs[:3])
    output = FORMS[form](*inputs, **options)
    upstream = upstream_like(output) if upstream is None else upstream.to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, used, upstream)]


def check(form, inputs, **options):
    """The kernels are as accurate as plain torch, in the output and in every gradient."""
    truth = results(form, [x.double() for x in inputs], backend="reference", **options)
    plain = results(form, inputs, backend="reference", **options)
    fast = results(form, inputs, backend="cpu", **options)
    # the gradient in a weight, of which their mean is taken off
    products = (upstream_like(plain[0]).abs().max() * inputs[2].abs().max()).item()
    names = ("output", "query", "key", "value", "zeta")
    for name, a, b, c in zip(names, fast, plain, truth, strict=False):
        assert a.shape == c.shape, name
        assert_as_accurate_as(a, b, c, scale=0.0 if name == "output" else products)
