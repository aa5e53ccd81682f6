"""Backward kernel of `gibbsian.attention.lln.cpu.causal`: one scan forwards, one backwards.

The first gives the gradients in the queries, the second those in keys and values; states are
recomputed, not kept. Derivation: docs/derivations/lln.md#kernels.
"""

from typing import Any

from gibbsian.attention.lln.cpu.causal_backward_keys import scan_keys
from gibbsian.attention.lln.cpu.causal_backward_queries import scan_queries
from gibbsian.attention.lln.cpu.causal_rows import head_rows, lay_out
from gibbsian.attention.lln.cpu.features import head_start
from gibbsian.numerics.cpu.jit import kernel


@kernel
def differentiate_causally(
    head: int,
    worker: int,
    offset: int,
    marks: Any,
    scales: Any,
    shares: Any,
    grad_scales: Any,
    kept: Any,
    scratch: Any,
    sizes: Any,
    tensors: Any,
    blocks: Any,
    upstream: Any,
    upstream_strides: Any,
    gradients: Any,
) -> None:
    """All gradients of one head.

    Args:
        head: counts through all samples.
        worker: whose `kept` and `scratch` to take.
        offset: position of the first query.
        marks: of present keys, and their strides.
        scales: of queries and keys, one each for every head.
        shares: what LLN's half is of each row, and their strides.
        grad_scales: the gradients in `scales`.
        kept: the chunks' shifts and first queries, and two numbers a query, from scan to scan.
        scratch: space of every worker.
        sizes: as `differentiate_blocks` takes it, and so what follows.
        tensors: see there.
        blocks: see there.
        upstream: see there.
        upstream_strides: see there.
        gradients: see there.
    """
    heads, head_dim, value_dim, num_queries, num_keys = sizes
    rows = head_rows(head, sizes, tensors, marks, scales, offset)
    space = lay_out(scratch[worker], head_dim, value_dim)
    up = upstream[head_start(upstream_strides, head, heads) :], upstream_strides[2]
    share_rows, share_strides = shares
    share = share_rows[head_start(share_strides, head, heads) :], share_strides[2]
    shifts, starts, numbers = kept
    record = shifts[worker], starts[worker], numbers[worker, 0], numbers[worker, 1]
    size, key_size, value_size = num_queries * head_dim, num_keys * head_dim, num_keys * value_dim
    grad_query, grad_key, grad_value = gradients
    grad_query = grad_query[head * size : (head + 1) * size]
    grad_key = grad_key[head * key_size : (head + 1) * key_size]
    grad_value = grad_value[head * value_size : (head + 1) * value_size]
    chunks, grad_scales[0][head] = scan_queries(rows, space, record, up, share, grad_query)
    call = sizes, tensors, blocks, upstream, upstream_strides, gradients
    grad_scales[1][head] = scan_keys(
        head, worker, rows, space, record, chunks, up, grad_key, grad_value, call
    )
