"""What cases refuse: a sparsity that is not the schedule's, a loss that is no number."""

from dataclasses import replace

import pytest
import torch

from gibbsian.experiments.bench import all_cases, decoders
from gibbsian.experiments.bench.case import Check
from gibbsian.experiments.bench.cases_models import require_finite
from gibbsian.experiments.bench.run import BenchConfig, run_case
from gibbsian.experiments.bench.verify import call_for_check, verify
from gibbsian.normalizers.schedules import SmoothStep
from tests.experiments.bench import small_cases as small

QUICK = all_cases(quick=True)


def checked():
    case = QUICK["aes-decoding-256"]
    contender, tensors = case.contender("AES, key index"), case.fresh_tensors()
    operation = contender.prepare(tensors)
    return verify(case, contender, operation, tensors, call_for_check(case, contender, operation))


def test_the_index_is_timed_at_the_default_tolerance():
    assert decoders.TOLERANCE == 0.02
    assert "certified 0.02 nats" in QUICK["aes-decoding-256"].contender("AES, key index").note


def test_a_sparsity_that_is_not_the_schedule_s_is_wrong(monkeypatch):
    assert checked().passed
    honest = decoders.aes_decode

    def other(*args, **options):
        return honest(*args, **options | {"schedule": SmoothStep(zeta_max=0.9)})

    # output and sparsity agree with each other: the schedule alone tells
    monkeypatch.setattr(decoders, "aes_decode", other)
    assert not checked().passed


@pytest.mark.parametrize("broken", ["bias", "weight"])
def test_a_gradient_that_is_not_finite_is_named(broken):
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    require_finite(model)
    getattr(model, broken).grad[0] = float("nan")
    with pytest.raises(FloatingPointError, match=f"gradient of {broken} is not finite"):
        require_finite(model)


@pytest.mark.parametrize("quantity", ["seconds", "bytes"])
def test_an_iteration_without_a_finite_loss_fails(quantity):
    kind = "iteration" if quantity == "seconds" else "memory"
    case = QUICK[f"model-{kind}-128"]
    contender = replace(
        case.contenders[0], check=lambda: Check(error=0.0, bound=1.0, against="nothing")
    )
    config = BenchConfig(repeats=1, budget=0.0, threads=1, quick=True)
    alone = replace(case, contenders=(contender,), ratios=())
    found = run_case(alone, config, small.Silent())["contenders"][contender.name]
    assert found["status"] == "ok"
    prepare = contender.prepare

    def overflowing(tensors):
        operation = prepare(tensors)

        def after():
            raise FloatingPointError("the iteration's gradient is not finite")

        return replace(operation, after=after)

    alone = replace(alone, contenders=(replace(contender, prepare=overflowing),))
    found = run_case(alone, config, small.Silent())["contenders"][contender.name]
    assert found["status"] == "failed"
    assert "FloatingPointError" in found["detail"]
