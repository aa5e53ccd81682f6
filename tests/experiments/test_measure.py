import math

import numpy as np
import pytest
import torch

from gibbsian.experiments.attentions import make_attention
from gibbsian.experiments.measure import measure, overall, schedule_values, summarise
from gibbsian.experiments.memory import peak_step_memory
from gibbsian.experiments.models import build_model
from gibbsian.experiments.windows import IGNORED, validation_batches
from gibbsian.integrations.transformers import use
from tests.experiments.tiny import tiny_config


@pytest.fixture(params=["decoder", "encoder"])
def setting(request, tmp_path):
    config = tiny_config(tmp_path, model=request.param, layers=2)
    model = use(build_model(config, 30, 0), make_attention("entmax:zeta=1.0"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_proj" in name or "query" in name:
                parameter.mul_(200)  # initial scores are so even that sparsemax stays dense
    windows = torch.randint(0, 30, (5, 16), generator=torch.Generator().manual_seed(1))
    batches = validation_batches(windows, 5, 2, kind=request.param, mask_token=30)
    return model, batches, request.param


def test_bits_per_byte_against_numpy(setting):
    model, batches, kind = setting
    num_bytes = torch.arange(1, 31)
    nats = covered = 0.0
    for batch in batches:
        with torch.no_grad():
            logits = model.eval()(batch["input_ids"]).logits.double().numpy()
        labels = batch["labels"].numpy()
        if kind == "decoder":
            logits, labels = logits[:, :-1], labels[:, 1:]
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for row, token in zip(log_p.reshape(-1, log_p.shape[-1]), labels.reshape(-1), strict=True):
            if token != IGNORED:
                nats -= row[token]
                covered += token + 1
    found = measure(model, batches, num_bytes)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / covered, rel=1e-6)


def test_statistics_are_means_over_rows(setting):
    model, batches, _ = setting
    model.train()
    found = measure(model, batches, torch.ones(30, dtype=torch.int64))
    assert model.training
    assert len(found.layers) == 2
    assert all(layer.zeta == 1.0 for layer in found.layers)
    assert all(0 < layer.support_fraction < 1 for layer in found.layers)
    one = measure(model, batches, torch.ones(30, dtype=torch.int64), statistics_batches=1)
    first = measure(model, batches[:1], torch.ones(30, dtype=torch.int64))
    assert one.layers == first.layers
    assert one.bits_per_byte == found.bits_per_byte != first.bits_per_byte


def test_summary_of_known_rows():
    rows = torch.tensor([[1.0, 2.0, 0.5, 1.0, 4.0], [3.0, 4.0, 0.7, 3.0, 4.0]]).view(1, 1, 2, 5)
    more = torch.tensor([[2.0, 0.0, 0.6, 2.0, 2.0]]).view(1, 1, 1, 5)
    layer = summarise([rows, more])
    assert layer.entropy == pytest.approx(2.0)
    assert layer.varentropy == pytest.approx(2.0)
    assert layer.zeta == pytest.approx(0.6)
    assert layer.support_fraction == pytest.approx((0.25 + 0.75 + 1.0) / 3)
    assert layer.num_keys == pytest.approx(10 / 3)
    assert overall([layer, summarise([more])]).num_keys == pytest.approx((10 / 3 + 2) / 2)


def test_peak_memory_counts_activations_and_changes_nothing(tmp_path):
    config = tiny_config(tmp_path, context=32)
    state, peaks = None, {}
    for name in ("softmax", "aes", "lln"):
        model = use(build_model(config, 30, 0), make_attention(name))
        before = {key: value.clone() for key, value in model.state_dict().items()}
        for size in (8, 16):
            window = torch.zeros(size, 32, dtype=torch.int64)
            peaks[name, size] = peak_step_memory(model, {"input_ids": window, "labels": window})
        state = model.state_dict()
        assert all(torch.equal(before[key], state[key]) for key in before)
        assert all(parameter.grad is None for parameter in model.parameters())
    weights = 4 * sum(value.numel() for value in state.values())
    # at least weights, two moments and one gradient; the logits and their gradient a window
    assert peaks["softmax", 8] > 4 * weights + 8 * 32 * 30 * 4
    assert peaks["softmax", 16] > peaks["softmax", 8]
    assert peaks["aes", 16] > peaks["softmax", 16]


def test_peak_memory_of_a_known_graph():
    class Known(torch.nn.Module):
        device = torch.device("cpu")

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(1000, 1000))

        def forward(self, input_ids, labels):
            # kept for backward: exp's result (4 MB); then the gradient joins it
            loss = (self.weight * 2).exp().sum() + 0 * (input_ids + labels).sum()
            return type("Output", (), {"loss": loss})()

    batch = {"input_ids": torch.zeros(1), "labels": torch.zeros(1)}
    peak = peak_step_memory(Known(), batch)
    assert peak == pytest.approx(3 * 4e6 + 2 * 4e6, rel=1e-4)


def test_learned_schedules_are_read_by_layer_and_head(tmp_path):
    config = tiny_config(tmp_path, layers=2)
    model = use(build_model(config, 30, 0), make_attention("aes-learned:zeta_max=0.25"))
    with torch.no_grad():
        model.model.layers[1].self_attn.gibbsian_attention.schedule.raw_zeta_max[0] = 0.0
    first, second = schedule_values(model)
    assert sorted(first) == ["high", "low", "zeta_max"]
    assert first["zeta_max"] == pytest.approx([0.25, 0.25])
    assert second["zeta_max"] == pytest.approx([0.5, 0.25])
    assert schedule_values(use(build_model(config, 30, 0), make_attention("aes"))) == []
