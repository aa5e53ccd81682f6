"""Temperature, entropy and spectral gap of a small encoder's layers while it is pretrained."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from gibbsian.experiments.claims.heads import recorded
from gibbsian.experiments.claims.matrices import mean_entropy
from gibbsian.experiments.text import load_text
from gibbsian.experiments.tokens import ByteTokens
from gibbsian.observables.spectral import dense_spectral_gaps
from gibbsian.observables.temperature import head_temperatures

MASK = 256
"""Number of the mask token, after the bytes."""
MASKED = 0.15
LENGTH = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Size of the model and of its training."""

    layers: int = 4
    width: int = 128
    heads: int = 4
    batch: int = 16
    steps: int = 600
    probe_every: int = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One step's means over the heads of every layer."""

    step: int
    loss: float
    temperature: tuple[float, ...]
    entropy: tuple[float, ...]
    """Nats."""
    gap: tuple[float, ...]


def _model(shape: Shape) -> BertForMaskedLM:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=MASK + 1,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.width,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def pretrain(shape: Shape, seed: int) -> list[Probe]:
    """Train on masked bytes of the novels, and look at the layers every so many steps."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)  # transformers initialises from the global generator
    try:
        model = _model(shape)
    finally:
        torch.set_rng_state(state)
    generator = torch.Generator().manual_seed(seed)
    data = ByteTokens().encode(load_text().content)
    held_out, data = data[:LENGTH], data[LENGTH:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    probes = []
    loss = torch.tensor(float("nan"))
    for step in range(shape.steps + 1):
        if step % shape.probe_every == 0:
            probes.append(_probe(model.eval(), held_out[None], step, loss.item()))
            model.train()
        starts = torch.randint(len(data) - LENGTH, (shape.batch,), generator=generator)
        tokens = data[starts[:, None] + torch.arange(LENGTH)]
        masked = torch.rand(tokens.shape, generator=generator) < MASKED
        for group in optimizer.param_groups:
            # a tenth of the steps to warm up, then a straight line to 0
            group["lr"] = 1e-3 * min(
                1.0, 10 * (step + 1) / shape.steps, 1.0 - step / (shape.steps + 1)
            )
        loss = model(
            torch.where(masked, MASK, tokens), labels=torch.where(masked, tokens, -100)
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return probes


@torch.no_grad()
def _probe(
    model: BertForMaskedLM, tokens: Int64[Tensor, "1 length"], step: int, loss: float
) -> Probe:
    temperature, entropy, gap = [], [], []
    for layer in recorded(model, tokens, "encoder", causal=False):
        weights = layer.scores().softmax(dim=-1)
        found = head_temperatures(layer.query[None].double(), layer.key[None].double())
        temperature.append(found.softmax.mean().item())
        entropy.append(mean_entropy(weights).mean().item())
        gap.append(dense_spectral_gaps(weights)[0].gap.mean().item())
    return Probe(
        step=step,
        loss=loss,
        temperature=tuple(temperature),
        entropy=tuple(entropy),
        gap=tuple(gap),
    )
