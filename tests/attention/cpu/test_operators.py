"""The kernels as torch sees them: operators, graphs, memory, compilation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gibbsian.attention import aes_attention, entmax_attention
from gibbsian.attention.cpu import entmax as entmax_module
from gibbsian.attention.cpu import statistics as statistics_module
from gibbsian.normalizers import LearnableRamp, SmoothStep
from tests.attention.cpu.cases import FORMS, results, tensors
from tests.tolerances import LONG_SEQUENCE_BYTES, assert_same

ROOT = Path(__file__).parents[3]
forms = pytest.mark.parametrize("form", FORMS)


@pytest.mark.parametrize("masked", [False, True])
def test_operators_keep_torch_s_rules(masked):
    query, key, value, zeta = tensors(7, 9, heads=4, key_heads=2)
    mask = torch.rand(1, 1, 7, 9) > 0.3 if masked else None
    options = (mask, True, 0.5)
    leaves = [x.requires_grad_() for x in (query, key, value, zeta)]
    torch.library.opcheck(entmax_module.entmax_attention_op, (*leaves, *options))
    torch.library.opcheck(
        statistics_module.attention_row_statistics_op, (query, key, mask, True, 0.5)
    )
    plain = [x.detach() for x in leaves]
    mixed, *saved = entmax_module.entmax_attention_op(*plain, *options)
    moments = statistics_module.attention_row_statistics_op(*plain[:2], *options)
    torch.library.opcheck(
        entmax_module._entmax_attention_backward,
        (torch.randn_like(mixed), *plain, mask, *saved, True, 0.5, True),
    )
    torch.library.opcheck(
        statistics_module._backward_op,
        (torch.randn_like(moments), *plain[:2], mask, moments, True, 0.5),
    )


@forms
def test_second_derivatives_are_the_reference_s(form):
    query, key, value, zeta = tensors(6, 7, heads=4, key_heads=2)
    zeta = zeta.clamp_min(0.1)
    mask = torch.rand(1, 4, 6, 7) > 0.2
    mask[..., 0] = True

    def second(backend):
        inputs = [x.clone().requires_grad_() for x in (query, key, value, zeta)]
        output = FORMS[form](
            *inputs, mask=mask, is_causal=True, enable_gqa=True, scale=0.4, backend=backend
        )
        first = torch.autograd.grad(output.square().sum(), inputs[:2], create_graph=True)
        total = sum((g * torch.linspace(-1, 1, g.numel()).view_as(g)).sum() for g in first)
        return [*first, *torch.autograd.grad(total, inputs[:2])]

    for one, other in zip(second("cpu"), second("reference"), strict=True):
        assert other.abs().max() > 0
        assert_same(one, other)


def test_gradients_reach_a_learnable_schedule():
    query, key, value, _ = tensors(66, 66, heads=4)
    gradients = []
    for backend in ("cpu", "reference"):
        schedule = LearnableRamp(num_heads=4)
        aes_attention(
            query, key, value, schedule=schedule, backend=backend
        ).square().sum().backward()
        gradients.append([p.grad for p in schedule.parameters()])
    assert gradients[0]
    for one, other in zip(*gradients, strict=True):
        assert_same(one, other)


def test_only_what_needs_a_gradient_gets_one():
    query, key, value, zeta = tensors(9, 9)
    names = (query, key, value, zeta)
    both = results("entmax", names, torch.ones(1, 2, 9, 5), backend="cpu")[1:]
    for i in range(4):
        inputs = [x.clone().requires_grad_(j == i) for j, x in enumerate(names)]
        entmax_attention(*inputs[:3], zeta=inputs[3], backend="cpu").sum().backward()
        assert torch.equal(inputs[i].grad, both[i])
        assert all(x.grad is None for j, x in enumerate(inputs) if j != i)


@pytest.mark.parametrize("detach_statistics", [False, True])
def test_nothing_of_the_size_of_the_scores_is_kept(detach_statistics):
    length, head_dim = 4096, 4
    query, key, value, _ = tensors(length, length, heads=1, head_dim=head_dim, value_dim=head_dim)
    leaves = [x.requires_grad_() for x in (query, key, value)]
    kept = []

    def pack(tensor):
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = aes_attention(
            *leaves,
            schedule=SmoothStep(),
            detach_statistics=detach_statistics,
            is_causal=True,
            backend="cpu",
        )
    assert kept
    # a query's own numbers; the scores would be `length` of them
    assert max(kept) <= 4 * length * 2 * head_dim
    output.sum().backward()
    assert all(x.grad.isfinite().all() for x in leaves)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for the peak")
def test_memory_of_a_long_sequence():
    """One head of 16384: scores would take 1 GiB, once in the forward pass and again backward."""
    code = """
import torch
from gibbsian.attention import aes_attention
from gibbsian.experiments.bench.memory import peak_bytes, reset_peak
from gibbsian.normalizers import SmoothStep


def step(length):
    inputs = [t.requires_grad_() for t in torch.randn(3, 1, 1, length, 64)]
    before = reset_peak()
    output = aes_attention(*inputs, schedule=SmoothStep(), is_causal=True, backend="cpu")
    gradients = torch.autograd.grad(output.sum(), inputs)
    results = sum(4 * t.numel() for t in (output, *gradients))
    return peak_bytes() - before - results


step(64)  # libraries, kernels, threads
print(step(16384))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= LONG_SEQUENCE_BYTES


@pytest.mark.compile
@pytest.mark.parametrize("detach_statistics", [False, True])
def test_compiles_without_a_break_at_any_length(detach_statistics):
    schedule = SmoothStep()

    def attend(query, key, value):
        return aes_attention(
            query,
            key,
            value,
            schedule=schedule,
            detach_statistics=detach_statistics,
            is_causal=True,
        )

    compiled = torch.compile(attend, fullgraph=True, dynamic=True)
    for length in (70, 130):
        leaves = [x.requires_grad_() for x in tensors(length, length)[:3]]
        found, expected = (
            (output, *torch.autograd.grad(output.square().sum(), leaves))
            for output in (compiled(*leaves), attend(*leaves))
        )
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
