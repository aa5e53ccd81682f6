"""Peers compute attention of the tensors that they are given, whatever their own layers do."""

import math

import pytest
import torch

from gibbsian.experiments.bench import peers
from gibbsian.experiments.bench.tensors import attention_tensors

HEADS, HEAD_DIM, LENGTH = 2, 8, 128


@pytest.fixture
def tensors():
    return attention_tensors(heads=HEADS, head_dim=HEAD_DIM, score_std=0.3)(LENGTH)


def heads_first(output):
    return output.unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2)


@pytest.mark.parametrize(
    ("package", "prepare"),
    [("nystrom_attention", peers.nystrom), ("transformers", peers.nystromformer)],
)
def test_nystrom_layers_approximate_softmax_of_the_given_tensors(package, prepare, tensors):
    pytest.importorskip(package)
    (found,) = prepare(tensors).call()
    scores = tensors["query"] @ tensors["key"].mT / math.sqrt(HEAD_DIM)
    truth = scores.softmax(dim=-1) @ tensors["value"]
    # scores of this width are nearly of low rank
    assert (heads_first(found) - truth).norm() < 0.3 * truth.norm()


def test_linear_attention_is_its_formula(tensors):
    pytest.importorskip("linear_attention_transformer")
    (found,) = peers.linear_attention()(tensors).call()
    query, key = tensors["query"].softmax(dim=-1), tensors["key"].softmax(dim=-2)
    truth = query / math.sqrt(HEAD_DIM) @ (key.mT @ tensors["value"])
    torch.testing.assert_close(found, truth)


def test_performer_approximates_softmax_of_the_given_tensors(tensors):
    pytest.importorskip("performer_pytorch", exc_type=ImportError)
    (found,) = peers.performer(tensors).call()
    scores = tensors["query"] @ tensors["key"].mT / math.sqrt(HEAD_DIM)
    truth = scores.softmax(dim=-1) @ tensors["value"]
    assert (found - truth).norm() < truth.norm()


def test_linformer_is_its_formula(tensors):
    pytest.importorskip("linformer")
    operation = peers.linformer(tensors)
    (found,) = operation.call()
    assert found.shape == (1, LENGTH, HEADS * HEAD_DIM)
    # one key's worth of values: whatever is attended to, the answer is in their span
    constant = dict(tensors, value=torch.zeros_like(tensors["value"]))
    (nothing,) = peers.linformer(constant).call()
    assert not nothing.any()
    assert found.any()


@pytest.mark.parametrize(
    ("package", "prepare"),
    [
        ("torch", peers.sdpa()),
        ("linear_attention_transformer", peers.linear_attention()),
        ("linear_attention_transformer", peers.linear_attention(is_causal=True)),
        ("transformers", peers.nystromformer),
        ("linformer", peers.linformer),
    ],
)
def test_gradients_reach_query_key_and_value(package, prepare, tensors):
    pytest.importorskip(package)
    for tensor in tensors.values():
        tensor.requires_grad_()
    operation = prepare(tensors)
    assert list(operation.leaves) == ["query", "key", "value"]
    (output,) = operation.call()
    gradients = torch.autograd.grad(output.square().sum(), list(operation.leaves.values()))
    assert all(gradient.any() for gradient in gradients)


def test_nystrom_takes_query_key_and_value_as_one_tensor(tensors):
    pytest.importorskip("nystrom_attention")
    for tensor in tensors.values():
        tensor.requires_grad_()
    operation = peers.nystrom(tensors)
    (joint,) = operation.leaves.values()
    assert joint.is_leaf
    with torch.no_grad():
        parts = [heads_first(part) for part in joint.chunk(3, dim=-1)]
        assert all(map(torch.equal, parts, tensors.values()))
    (output,) = operation.call()
    (gradient,) = torch.autograd.grad(output.square().sum(), [joint])
    assert all(part.any() for part in gradient.chunk(3, dim=-1))


def test_layers_have_no_weights_to_train_and_no_dropout(tensors):
    for package, prepare in (("nystrom_attention", peers.nystrom), ("linformer", peers.linformer)):
        pytest.importorskip(package)
        operation = prepare(tensors)
        assert torch.equal(operation.call()[0], operation.call()[0])
        assert not operation.call()[0].requires_grad
