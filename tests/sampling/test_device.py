"""Nothing in a step waits for a device: no number is read, no shape depends on the data."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gibbsian.sampling import AttentionSignals, start, step, take
from tests.sampling.cases import rows
from tests.sampling.policies.cases import EVERY

READING = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "unique", "equal"}


class Reading(TorchDispatchMode):
    """Collects the operations that a device would have to be waited for."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        boolean_index = name == "index" and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if name in READING or boolean_index:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.name)
def test_no_step_reads_a_number(policy, monkeypatch):
    # the CPU's own way, which is no accelerator's
    monkeypatch.setattr(take, "runs_on_cpu_kernels", lambda *_, **__: False)
    if policy.name == "free-energy":
        pytest.skip("on the CPU the solver reads a flag to stop early; elsewhere it does not")
    logits, state = rows(), start(policy, 12, seed=0)
    signals = AttentionSignals(**dict.fromkeys(NAMES, torch.rand(12)))
    with Reading() as reading:
        step(logits, state, policy=policy, attention=signals, validate=False)
    assert reading.seen == []


def test_the_check_sees_a_read():
    with Reading() as reading:
        bool(torch.ones(()))
        torch.ones(3)[torch.ones(3, dtype=torch.bool)]
    assert len(reading.seen) >= 2


NAMES = ("entropy", "varentropy", "agreement", "interaction_strength")
