"""Filters are Hugging Face's own, bit for bit, ties and absent tokens included."""

import pytest
import torch

from gibbsian.sampling import Decision
from gibbsian.sampling.filters import (
    Epsilon,
    Eta,
    MinP,
    Temperature,
    TopHPartialSums,
    TopK,
    TopP,
    Typical,
)
from tests.sampling.cases import rows

transformers = pytest.importorskip("transformers")
peers = transformers.generation.logits_process

CASES = [
    *((Temperature(temperature=t), peers.TemperatureLogitsWarper(t)) for t in (0.1, 0.7, 1.9)),
    *((TopK(k=k), peers.TopKLogitsWarper(k)) for k in (1, 5, 50, 10_000)),
    *((TopP(p=p), peers.TopPLogitsWarper(p)) for p in (1e-9, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0)),
    *((MinP(min_p=p), peers.MinPLogitsWarper(p)) for p in (0.0, 0.02, 0.1, 0.5, 1.0)),
    *((Typical(mass=p), peers.TypicalLogitsWarper(p)) for p in (0.05, 0.3, 0.9, 0.995)),
    *((Epsilon(epsilon=e), peers.EpsilonLogitsWarper(e)) for e in (3e-4, 0.01, 0.3, 0.9)),
    *((Eta(epsilon=e), peers.EtaLogitsWarper(e)) for e in (3e-4, 0.01, 0.3, 0.9)),
    *((TopHPartialSums(h=h), peers.TopHLogitsWarper(h)) for h in (0.1, 0.4, 0.7, 1.0)),
]


@pytest.mark.parametrize(("ours", "theirs"), CASES, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize("states", [1, 5, 300, 5003])
def test_bit_for_bit(ours, theirs, states):
    logits = rows(states=max(states, 8))[:, :states]
    if not torch.isfinite(logits).any(dim=-1).all():
        logits[2] = 0.5
    actual, expected = ours(logits), theirs(None, logits.clone())
    if isinstance(ours, TopP):
        # an unstable sort decides which of equal scores they cut; how many is the rule
        tied = (logits.sort().values.diff() == 0).any(dim=-1)
        assert torch.equal(actual.sort().values, expected.sort().values)
        actual, expected = actual[~tied], expected[~tied]
    assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ("make", "theirs", "values"),
    [
        (lambda v: Temperature(temperature=v), peers.TemperatureLogitsWarper, (0.3, 1.0, 1.7)),
        (lambda v: TopK(k=v.int()), lambda v: peers.TopKLogitsWarper(int(v)), (1.0, 7.0, 299.0)),
        (
            lambda v: TopK(k=v.int(), bound=20),
            lambda v: peers.TopKLogitsWarper(min(20, int(v))),
            (1.0, 7.0, 299.0),
        ),
        (lambda v: TopP(p=v), peers.TopPLogitsWarper, (0.1, 0.9, 0.97)),
        (lambda v: MinP(min_p=v), peers.MinPLogitsWarper, (0.01, 0.1, 0.9)),
        (lambda v: Typical(mass=v), peers.TypicalLogitsWarper, (0.2, 0.9, 0.97)),
        (lambda v: Epsilon(epsilon=v), peers.EpsilonLogitsWarper, (3e-4, 0.02, 0.6)),
        (lambda v: Eta(epsilon=v), peers.EtaLogitsWarper, (3e-4, 0.02, 0.6)),
        (lambda v: TopHPartialSums(h=v), peers.TopHLogitsWarper, (0.2, 0.5, 0.9)),
    ],
)
def test_one_parameter_a_row(make, theirs, values):
    logits = rows()
    logits[:2] = torch.randn(2, logits.shape[1])  # no ties, see above
    chosen = torch.tensor(values * 4, dtype=torch.float64)
    together = make(chosen)(logits)
    for i, value in enumerate(chosen.tolist()):
        assert torch.equal(together[i : i + 1], theirs(value)(None, logits[i : i + 1]))


def test_half_precision_is_cut_as_its_float32_values_are():
    logits = torch.randn(8, 300).mul(3).bfloat16()
    expected = peers.MinPLogitsWarper(0.05)(None, logits.float())
    assert torch.equal(MinP(min_p=0.05)(logits), expected)


def test_a_decision_filters_as_their_chain_does_in_their_order():
    logits = torch.randn(20, 2000) * 3
    decision = Decision(
        temperature=0.7, top_k=60, top_p=0.95, min_p=0.01, typical=0.9, epsilon=1e-3
    )
    expected = logits
    for warper in (
        peers.TemperatureLogitsWarper(0.7),
        peers.TopKLogitsWarper(60),
        peers.TopPLogitsWarper(0.95),
        peers.MinPLogitsWarper(0.01),
        peers.TypicalLogitsWarper(0.9),
        peers.EpsilonLogitsWarper(1e-3),
    ):
        expected = warper(None, expected)
    assert torch.equal(decision.apply(logits), expected)
